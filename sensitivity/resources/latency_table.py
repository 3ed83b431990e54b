"""Latency that the user brings: a CSV file with one line per layer and format.

::

    layer,format,latency_us,spread_us
    encoder.layer.0.attention.self.query,int4-g64,41.0,0.8
    encoder.layer.0.attention.self.query,fp16,96.1,1.1

``spread_us`` may be left out. A layer named ``*constant`` with an empty format is paid once per pass.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from allocator import Fault, InvalidInputError
from allocator.contract.errors import unknown
from quantize import StorageFormat
from sensitivity.resources.latency import Latencies, RowWork, Timing

_CONSTANT = "*constant"
_REQUIRED = ("layer", "format", "latency_us")
_OPTIONAL = ("spread_us",)


def latency_table(
    works: Sequence[RowWork], formats: Sequence[StorageFormat], *, path: str | Path
) -> Latencies:
    """Look latencies up in a CSV file.

    Args:
        path: The file. It may hold formats that are not asked for, but no layer that the profile does not have.

    Returns:
        The figures of the file; a reason where it has none.

    Raises:
        InvalidInputError: The file cannot be read, a line is wrong (every such line is named), or it has no figure
            for any layer.
    """
    found = _read(Path(path), {work.name for work in works})
    entries = tuple(
        tuple(found.get((work.name, fmt.name), f"{os.fspath(path)} has no line for it") for fmt in formats)
        for work in works
    )
    if not any(isinstance(item, Timing) for row in entries for item in row):
        detail = (
            f"{os.fspath(path)} has no figure for any layer in {', '.join(item.name for item in formats)}"
        )
        raise InvalidInputError(_fault(detail))
    constant = found.get((_CONSTANT, ""), Timing(0.0))
    return Latencies(entries, constant.median_us, f"table {Path(path).name}")


def _read(path: Path, layers: set[str]) -> Mapping[tuple[str, str], Timing]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(_fault(f"cannot read {os.fspath(path)!r}: {error}")) from error
    if not lines:
        raise InvalidInputError(
            _fault(f"{os.fspath(path)!r} is empty; expected the header {','.join(_REQUIRED)}")
        )
    columns = _columns(*lines[0])
    found: dict[tuple[str, str], Timing] = {}
    problems: list[str] = []
    for number, line in lines[1:]:
        try:
            key, timing = _entry(columns, line, layers)
            if key in found:
                raise ValueError(f"{key[0]!r} in {key[1]!r} stands twice; keep one line")
            found[key] = timing
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise InvalidInputError(*map(_fault, problems))
    return found


def _columns(number: int, header: Sequence[str]) -> list[str]:
    columns = [cell.strip() for cell in header]
    strange = [name for name in columns if name not in (*_REQUIRED, *_OPTIONAL)]
    if strange:
        raise InvalidInputError(
            _fault(f"line {number}: {unknown(strange[0], (*_REQUIRED, *_OPTIONAL), 'column')}")
        )
    missing = [name for name in _REQUIRED if name not in columns]
    if missing or len(set(columns)) < len(columns):
        wanted, came = ",".join(_REQUIRED), ",".join(columns)
        raise InvalidInputError(
            _fault(f"line {number}: expected the header {wanted} with each column once, got {came}")
        )
    return columns


def _entry(columns: Sequence[str], line: Sequence[str], layers: set[str]) -> tuple[tuple[str, str], Timing]:
    if len(line) != len(columns):
        raise ValueError(f"expected {len(columns)} values, got {len(line)}")
    cells = dict(zip(columns, (cell.strip() for cell in line), strict=True))
    if cells["layer"] != _CONSTANT and cells["layer"] not in layers:
        raise ValueError(unknown(cells["layer"], sorted(layers), "layer"))
    if (cells["layer"] == _CONSTANT) == bool(cells["format"]):
        raise ValueError(
            f"expected a format for every layer and none for {_CONSTANT}, got {cells['format']!r}"
        )
    latency = _microseconds("latency_us", cells["latency_us"])
    spread = _microseconds("spread_us", cells.get("spread_us") or "0")
    return (cells["layer"], cells["format"]), Timing(latency, spread)


def _microseconds(column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{column}: expected a number of microseconds, got {text!r}") from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{column}: expected at least 0 microseconds, got {text!r}")
    return value


def _fault(detail: str) -> Fault:
    return Fault("/resources/latency_us/path", detail)
