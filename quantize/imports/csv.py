"""A table of ``layer, format, cost, bytes``: what any tool can write.

``parameters`` (number of weights), ``unit`` and ``bits`` (for formats with names of their own) are optional columns. A
cost or size may be left empty where it was not measured.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from allocator import Fault, InvalidInputError
from allocator import Format as ProfileFormat
from quantize.imports.files import only, read_bytes
from quantize.imports.scores import Pair, Request, Scores
from quantize.llama_types import format_named

_COLUMNS = ("layer", "format", "cost", "bytes", "parameters", "unit", "bits")


def scores(request: Request) -> Scores:
    """Read a table.

    Args:
        request: One CSV file.

    Returns:
        Its scores.

    Raises:
        InvalidInputError: Lines cannot be read; every such line is named, the same complaint once for all of its lines.
    """
    path = only(request.paths, "csv")
    text = read_bytes(path).decode("utf-8-sig", "replace")
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    header = reader.fieldnames or []
    missing = {"layer", "format"} - set(header) or (
        {"cost or bytes"} if not {"cost", "bytes"} & set(header) else set()
    )
    if missing or set(header) - set(_COLUMNS):
        detail = f"line 1: expected the columns {', '.join(_COLUMNS)} (the last three optional), got {header}"
        raise InvalidInputError(Fault(f"/{path.name}", detail))
    rows: dict[Pair, _Row] = {}
    complaints: dict[str, list[int]] = {}
    for fields in _lines(reader, path.name):
        try:
            row = _row(fields, rows)
        except ValueError as error:
            complaints.setdefault(str(error), []).append(reader.line_num)
        else:
            rows[row.pair] = row
    if complaints:
        raise InvalidInputError(*(_fault(path.name, what, lines) for what, lines in complaints.items()))
    return _scores(list(rows.values()))


def _fault(name: str, what: str, lines: list[int]) -> Fault:
    more = f" (and {len(lines) - 1} more lines)" if len(lines) > 1 else ""
    return Fault(f"/{name}", f"line {lines[0]}{more}: {what}")


def _lines(reader: csv.DictReader[str], name: str) -> Iterator[Mapping[str, str | None]]:
    try:
        yield from reader
    except csv.Error as error:
        raise InvalidInputError(Fault(f"/{name}", f"after line {reader.line_num}: {error}")) from error


@dataclass(frozen=True)
class _Row:
    pair: Pair
    column: ProfileFormat
    cost: float | None
    stored_bytes: float | None
    parameters: int | None
    unit: str


def _row(fields: Mapping[str, str | None], earlier: Container[Pair]) -> _Row:
    if None in fields or None in fields.values():
        raise ValueError(
            f"expected as many fields as columns, got {[value for value in fields.values() if value]}"
        )
    layer, name = (str(fields[key]).strip() for key in ("layer", "format"))
    if not layer or not name:
        raise ValueError("expected a layer and a format, got an empty field")
    if (layer, name) in earlier:
        raise ValueError(f"{layer!r} with {name!r} is given twice")
    cost, size, count = (_number(fields, key) for key in ("cost", "bytes", "parameters"))
    if size is not None and size < 0:
        raise ValueError(f"expected a size of at least 0 bytes, got {size}")
    if count is not None and (count < 0 or count != int(count)):
        raise ValueError(f"expected a whole number as parameters, got {count}")
    column = _format(name, _number(fields, "bits"))
    unit = str(fields.get("unit") or "").strip()
    return _Row((layer, name), column, cost, size, None if count is None else int(count), unit)


def _scores(rows: list[_Row]) -> Scores:
    return Scores(
        name="cost",
        meaning="as imported",
        formats={row.pair[1]: row.column for row in rows},
        layers={row.pair[0]: row.parameters for row in rows},
        costs={row.pair: row.cost for row in rows if row.cost is not None},
        stored_bytes={row.pair: row.stored_bytes for row in rows if row.stored_bytes is not None},
        units={row.pair[0]: row.unit for row in rows if row.unit},
        source="csv",
    )


def _number(row: Mapping[str, str | None], key: str) -> float | None:
    text = str(row.get(key) or "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"expected a number as {key}, got {text!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number as {key}, got {text!r}")
    return value


def _format(name: str, bits: float | None) -> ProfileFormat:
    if bits is not None:
        if not 0 < bits <= 64:
            raise ValueError(f"expected more than 0 and at most 64 bits, got {bits}")
        return ProfileFormat(weight_bits=bits)
    try:
        return format_named(name).describe()
    except InvalidInputError as error:
        raise ValueError(f"{error.faults[0].detail}; or give its bits in a column of that name") from error
