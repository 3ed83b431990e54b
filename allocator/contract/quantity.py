"""Numbers with units: ``"12 MiB"``, ``"900 us"``, or a bare number in the table's own unit.

An amount is the decimal that was written, exactly: 1.001 MB are 1001000 bytes, and 4.35 bits are 435/100. Binary
floats come in only when all of the arithmetic is done.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

_BYTES = {"b": 1, "byte": 1, "bytes": 1}
_BYTES |= {f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", start=1)}
_BYTES |= {f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", start=1)}
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9}
_SCALES = {"size": _BYTES, "time": _NANOSECONDS}
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*?)?\s*")


def parse_quantity(given: float | str, unit: str) -> float:
    """Read an amount in the unit of a table, as the double next to it.

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
        >>> parse_quantity("1.001 MB", "byte")
        1001000.0
    """
    return float(exact_quantity(given, unit))


def exact_quantity(given: float | str, unit: str) -> Fraction:
    """Read an amount in the unit of a table, exactly as it is written.

    Args:
        given: A bare number (already in ``unit``) or a text such as ``"12 MiB"``.
        unit: Unit of the table the amount will be compared with.

    Returns:
        The amount in ``unit``; of a double its shortest decimal, but of one that is an integer that integer.

    Raises:
        ValueError: The text is no number, its unit is unknown, or it cannot be converted to ``unit``.

    Example:
        >>> exact_quantity(4.35, "bit")
        Fraction(87, 20)
        >>> exact_quantity("1 us", "ms")
        Fraction(1, 1000)
    """
    if not isinstance(given, str):
        return Fraction(given) if float(given).is_integer() else Fraction(repr(float(given)))
    match = _QUANTITY.fullmatch(given)
    if match is None or not math.isfinite(float(match[1])):
        raise ValueError(f"expected a number with an optional unit such as '12 MiB', got {given!r}")
    # An exponent below those of doubles would make a fraction of that many digits.
    value = Fraction(match[1]) if float(match[1]) else Fraction(0)
    suffix = match[2]
    if suffix is None or suffix == unit:
        return value
    for kind, scale in _SCALES.items():
        if suffix.lower() in scale:
            if unit.lower() not in scale:
                raise ValueError(f"{given!r} is a {kind}, but the table is in {unit or 'no unit'}")
            return value * scale[suffix.lower()] / scale[unit.lower()]
    known = "B kB MB GB TB KiB MiB GiB TiB ns us ms s"
    raise ValueError(f"unknown unit {suffix!r} in {given!r}; known: {known}")
