"""What plans can reach of a budget or limit that could not be kept, in words."""

from __future__ import annotations

from allocator import Reach, Usage


def number(amount: float) -> str:
    """Write an amount for people.

    Returns:
        Whole numbers in full, others with six digits, thousands separated.

    Example:
        >>> number(9212472.0), number(3.2468417)
        ('9,212,472', '3.24684')
    """
    return f"{amount:,.0f}" if float(amount).is_integer() else f"{amount:,.6g}"


def against(asked: Usage | Reach, used: str, most: str, least: str) -> str:
    """Put an amount beside what was asked.

    Args:
        asked: With the sides that were asked for.
        used: What to begin with.
        most: Words before the upper side, where it is alone.
        least: Words before the lower one.

    Returns:
        The words, with units.
    """
    parts = [used]
    if asked.at_least is not None:
        parts += [least, _in_unit(asked.at_least, asked.unit)]
    if asked.limit is not None:
        parts += [most if asked.at_least is None else "and at most", _in_unit(asked.limit, asked.unit)]
    return " ".join(part for part in parts if part)


def reached(name: str, reach: Reach, *, alone: bool) -> str:
    """Say what plans reach of a budget or limit, and which amounts near it are reached, or at most could be.

    Args:
        alone: Whether nothing else was asked.

    Returns:
        One line.

    Example:
        >>> reached("bytes", Reach(least=1, most=9, limit=0.5, unit="byte"), alone=True)
        'bytes: asked for 0.5 byte, plans reach 1 to 9 byte'
    """
    text = f"{name}: {against(reach, 'asked for', '', 'at least')}"
    text += f", plans reach {number(reach.least)} to {_in_unit(reach.most, reach.unit)}"
    low, high = reach.least_with_others, reach.most_with_others
    if low is not None and high is not None and not alone:
        text += f"; with all else kept: {number(low)} to {_in_unit(high, reach.unit)}"
        if {"least_with_others", "most_with_others"} & set(reach.bounds):
            text += " at the widest, which is not proved to be reached"
    if _within(reach):
        text += _nearest(reach)
    return text


def _in_unit(amount: float, unit: str) -> str:
    return f"{number(amount)} {unit}".rstrip()


def _within(reach: Reach) -> bool:
    # Whether the span holds what was asked for, so that it explains nothing.
    low, high = reach.least_with_others, reach.most_with_others
    if low is None or high is None:
        return False
    return (reach.limit is None or low <= reach.limit) and (reach.at_least is None or high >= reach.at_least)


def _nearest(reach: Reach) -> str:
    near = {"nearest_below": reach.nearest_below, "nearest_above": reach.nearest_above}
    known = [
        number(amount) for side, amount in near.items() if amount is not None and side not in reach.bounds
    ]
    open_ = [number(amount) for side, amount in near.items() if amount is not None and side in reach.bounds]
    text = f"; the nearest that can be reached: {' and '.join(known)}" if known else ""
    if open_:
        amounts = " and ".join(open_)
        text += f"; no plan comes nearer than {amounts}, and whether one comes that near is not known"
    return text
