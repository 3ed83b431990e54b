"""Data frames in and out: tables of a profile from pandas, polars and others, answers as pandas frames.

A frame has a column for each format. Its rows are matched to the layers by name: by the index of pandas where that
holds text, by a column ``layer`` otherwise; a frame with neither has its rows in the order of the layers. A missing
value (NaN, null) marks a format that the layer cannot have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from allocator.contract.errors import Fault, InvalidInputError, pointer, require, unknown

#: The column that names the rows of a frame without an index.
_LAYER = "layer"


def frame_of(index_name: str, index: Sequence[object], columns: Mapping[str, object]) -> Any:  # noqa: ANN401
    """Make a pandas data frame.

    Args:
        index: What names the rows.
        columns: Column name to its values.

    Returns:
        The frame.

    Raises:
        MissingPackageError: pandas is not installed.
    """
    pandas = require("pandas", "frames")
    return pandas.DataFrame(columns, index=pandas.Index(index, name=index_name))


def frame_of_steps(spend: Iterable[float], objective: Iterable[float], price: Iterable[float]) -> Any:  # noqa: ANN401
    """Make a pandas data frame of a trade-off: one row for each number of steps.

    Args:
        spend: (N + 1,) spend after each number of steps.
        objective: (N + 1,) objective after each number of steps.
        price: (N,) what a unit of spend buys in each step.

    Returns:
        A frame with the index ``step`` and the columns ``spend``, ``objective`` and ``price`` (none at step 0).
    """
    columns = {"spend": list(spend), "objective": list(objective), "price": [math.nan, *price]}
    return frame_of("step", range(len(columns["spend"])), columns)


def without_frames(document: Mapping[str, object]) -> Mapping[str, object]:
    """Replace the data frames among the tables of a profile by the lists that the contract has.

    Args:
        document: Parsed JSON of a profile; a cost or resource, its ``values`` or its ``stderr`` may be a frame.

    Returns:
        The document, unchanged where it holds no frame.

    Raises:
        InvalidInputError: Columns or rows of a frame are not the formats and layers of the profile; names them.
        MissingPackageError: A frame of neither pandas nor polars needs pandas to be read.
    """
    changed: dict[str, object] = {}
    for kind in ("costs", "resources"):
        tables = document.get(kind)
        if not isinstance(tables, Mapping):
            continue
        read = {name: _table(document, (kind, str(name)), table) for name, table in tables.items()}
        if any(read[name] is not tables[name] for name in tables):
            changed[kind] = read
    return {**document, **changed} if changed else document


def _table(document: Mapping[str, object], where: tuple[str, ...], table: object) -> object:
    if _is_frame(table):
        return {"values": _rows(document, where, table)}
    if not isinstance(table, Mapping):
        return table
    read = {
        part: _rows(document, (*where, part), table[part])
        for part in ("values", "stderr")
        if _is_frame(table.get(part))
    }
    return {**table, **read} if read else table


def _is_frame(value: object) -> bool:
    return hasattr(value, "__dataframe__") or (hasattr(value, "to_numpy") and hasattr(value, "columns"))


def _rows(document: Mapping[str, object], where: tuple[str, ...], frame: Any) -> list[list[float | None]]:  # noqa: ANN401
    formats, layers = _formats(document), _layers(document)
    if not (hasattr(frame, "to_numpy") and hasattr(frame, "columns")):
        frame = require("pandas", "frames").api.interchange.from_dataframe(frame)
    columns = [str(name) for name in frame.columns]
    names = _row_names(frame, columns)
    faults = [
        *_strange([name for name in columns if name != _LAYER or name in formats], formats, "format", where),
        *([] if names is None else _strange(names, layers, "layer", where)),
    ]
    if faults:
        raise InvalidInputError(*faults)
    values = [_numbers(frame[name]) for name in formats]
    row_of = {name: row for row, name in enumerate(names or ())}
    order = range(len(frame)) if names is None else [row_of[name] for name in layers]
    return [[column[row] for column in values] for row in order]


def _row_names(frame: Any, columns: Sequence[str]) -> list[str] | None:  # noqa: ANN401
    index = getattr(frame, "index", None)
    if index is not None and len(index) and all(isinstance(name, str) for name in index):
        return list(index)
    if _LAYER in columns:
        return [str(name) for name in frame[_LAYER].to_numpy().tolist()]
    return None


def _numbers(column: Any) -> list[float | None]:  # noqa: ANN401
    # What is no number is left as it is, for the contract to refuse by its place.
    return [None if _is_missing(value) else value for value in column.to_numpy().tolist()]


def _is_missing(value: object) -> bool:
    # The last is what pandas has for a missing value in a column of integers.
    return value is None or (isinstance(value, float) and math.isnan(value)) or repr(value) == "<NA>"


def _strange(found: Sequence[str], known: Sequence[str], what: str, where: tuple[str, ...]) -> list[Fault]:
    times, expected = Counter(found), set(known)
    faults = [Fault(pointer(where), unknown(name, known, what)) for name in times if name not in expected]
    missing = [name for name in known if name not in times]
    repeated = [name for name, count in times.items() if count > 1]
    for problem, names in (("has no", missing), ("has more than one", repeated)):
        if names:
            shown = ", ".join(map(repr, names[:20])) + (
                f" and {len(names) - 20} more" if len(names) > 20 else ""
            )
            faults.append(Fault(pointer(where), f"the frame {problem} {what} {shown}"))
    return faults


def _formats(document: Mapping[str, object]) -> list[str]:
    formats = document.get("formats")
    return [str(name) for name in formats] if isinstance(formats, Mapping) else []


def _layers(document: Mapping[str, object]) -> list[str]:
    layers = document.get("layers")
    found = layers if isinstance(layers, Sequence) else ()
    return [
        str(layer.get("name") if isinstance(layer, Mapping) else getattr(layer, "name", layer))
        for layer in found
    ]
