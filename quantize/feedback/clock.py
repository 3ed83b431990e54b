"""A clock that a machine which slows down does not put wrong: every plan is timed beside one that stays the same."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from allocator import Profile
from quantize.feedback.measurement import Assignment

_SESSIONS = 3


def clock_beside(
    times_us: Callable[[Sequence[Assignment]], Sequence[float]], reference: Assignment
) -> Callable[[Assignment], float]:
    """Make a clock.

    Args:
        times_us: Times plans in turns, microseconds; only times of one call are compared.
        reference: The plan that stays the same, such as :func:`middle_plan`.

    Returns:
        Plan → its time over that of the reference, times what the reference took at the beginning, µs.

    Example:
        >>> speeds = iter([1.0, 1.0, 1.0, 1.0, 1.5])  # of the machine; the last look at the clock is a slow one
        >>> def times_us(plans):
        ...     slower = next(speeds)
        ...     return [slower * {"int4": 100.0, "int8": 150.0}[plan["up"]] for plan in plans]
        >>> clock = clock_beside(times_us, {"up": "int8"})
        >>> clock({"up": "int4"}), clock({"up": "int4"})
        (100.0, 100.0)
    """
    unit = statistics.median(times_us([reference, reference])[0] for _ in range(_SESSIONS))

    def clock(plan: Assignment) -> float:
        ours, beside = times_us([plan, reference])
        return ours / beside * unit

    return clock


def middle_plan(profile: Profile) -> dict[str, str]:
    """Choose a plan to time others beside: one in the middle has something of what slows down small and large ones.

    Args:
        profile: Tables; formats in order of size.

    Returns:
        The uniform plan of the format in the middle.

    Example:
        >>> formats = {f"int{bits}": {"weight_bits": bits} for bits in (2, 4, 8)}
        >>> costs = {"kl": {"values": [[3, 2, 1]]}}
        >>> middle_plan(Profile(formats=formats, layers=[{"name": "up"}], costs=costs))
        {'up': 'int4'}
    """
    formats = list(profile.formats)
    return dict.fromkeys((layer.name for layer in profile.layers), formats[len(formats) // 2])
