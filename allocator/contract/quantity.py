"""Numbers with units: ``"12 MiB"``, ``"900 us"``, or a bare number in the table's own unit."""

from __future__ import annotations

import math
import re

_BYTES = {"b": 1.0, "byte": 1.0, "bytes": 1.0}
_BYTES |= {f"{prefix}b": 1000.0**power for power, prefix in enumerate("kmgt", start=1)}
_BYTES |= {f"{prefix}ib": 1024.0**power for power, prefix in enumerate("kmgt", start=1)}
_NANOSECONDS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9}
_SCALES = {"size": _BYTES, "time": _NANOSECONDS}
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*?)?\s*")


def parse_quantity(given: float | str, unit: str) -> float:
    """Read an amount in the unit of a table.

    Args:
        given: A bare number (already in ``unit``) or a text such as ``"12 MiB"``.
        unit: Unit of the table the amount will be compared with.

    Returns:
        The amount in ``unit``.

    Raises:
        ValueError: The text is no number, its unit is unknown, or it cannot be converted to ``unit``.

    Example:
        >>> parse_quantity("1.5 KiB", "byte")
        1536.0
        >>> parse_quantity("2 ms", "us")
        2000.0
    """
    if not isinstance(given, str):
        return float(given)
    match = _QUANTITY.fullmatch(given)
    if match is None or not math.isfinite(float(match[1])):
        raise ValueError(f"expected a number with an optional unit such as '12 MiB', got {given!r}")
    value, suffix = float(match[1]), match[2]
    if suffix is None or suffix == unit:
        return value
    for kind, scale in _SCALES.items():
        if suffix.lower() in scale:
            if unit.lower() not in scale:
                raise ValueError(f"{given!r} is a {kind}, but the table is in {unit or 'no unit'}")
            return value * scale[suffix.lower()] / scale[unit.lower()]
    known = "B kB MB GB TB KiB MiB GiB TiB ns us ms s"
    raise ValueError(f"unknown unit {suffix!r} in {given!r}; known: {known}")
