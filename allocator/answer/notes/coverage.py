"""How much of a model a profile plans, and what lies outside."""

from __future__ import annotations

import math
from collections.abc import Sequence

from allocator.contract.note import Note
from allocator.contract.outside import Outside
from allocator.contract.profile import Profile, ResourceTable
from allocator.contract.quantity import parse_quantity
from allocator.knapsack.tables import WEIGHT_BYTES

#: Below this share of the weights an answer warns.
_ENOUGH = 0.9
_NAMED = 4
_UNSUPPORTED = ": not supported here"


def coverage_notes(profile: Profile) -> tuple[Note, ...]:
    """Say how much of the model is planned.

    Returns:
        One note, a warning where less than 90 % of the weights are planned; none where the profile does not record
        what lies outside.

    Example:
        >>> from allocator.contract.profile import load_profile
        >>> profile = load_profile(
        ...     {
        ...         "formats": {"int4": {"weight_bits": 4}},
        ...         "layers": [{"name": "fc", "parameters": 9400}],
        ...         "resources": {"weight_bytes": {"values": [[4700]], "unit": "byte", "constant": 1200}},
        ...         "outside": [{"name": "norm.weight", "parameters": 600, "stored_bytes": 1200, "reason": "norm"}],
        ...     }
        ... )
        >>> coverage_notes(profile)[0].text
        '94 % of the weights are planned; 1.2 kB are outside (norm)'
    """
    if profile.outside is None:
        return ()
    if not profile.outside:
        return (Note(about="coverage", text="all weights are planned; nothing is outside"),)
    left, size = (
        sum(item.parameters for item in profile.outside),
        sum(item.stored_bytes for item in profile.outside),
    )
    share = profile.parameters / max(profile.parameters + left, 1)
    text = f"{_percent(share)} of the weights are planned; {in_bytes(size)} are outside ({_reasons(profile.outside)})"
    if not _counted(profile, size):
        text += f", and not counted in {WEIGHT_BYTES!r}"
    if share >= _ENOUGH:
        return (Note(about="coverage", text=text),)
    largest = max(profile.outside, key=lambda item: item.stored_bytes)
    text = f"only {text}; the largest is {largest.name!r}, {in_bytes(largest.stored_bytes)}"
    return (Note(about="coverage", severity="warning", text=text),)


def in_bytes(size: float) -> str:
    """Write bytes for people.

    Args:
        size: Number of bytes.

    Returns:
        Three digits and a decimal unit.

    Example:
        >>> in_bytes(999), in_bytes(1536), in_bytes(1_500_000_000)
        ('999 B', '1.54 kB', '1.5 GB')
    """
    power = 0 if size < 1000 else min(int(math.log10(size)) // 3, 4)
    return f"{size / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _percent(share: float) -> str:
    # Rounded down: what is not all of it never reads 100 %.
    places = 0 if share < 0.99 else 1
    scale = 10 ** (2 + places)
    return f"{math.floor(share * scale) / 10**places:.{places}f} %"


def _reasons(outside: Sequence[Outside]) -> str:
    # What is said of several kinds is said once, at the end.
    sizes: dict[str, int] = {}
    said = False
    for item in outside:
        kind = item.reason.removesuffix(_UNSUPPORTED)
        said |= kind != item.reason
        sizes[kind] = sizes.get(kind, 0) + item.stored_bytes
    ordered = sorted(sizes, key=lambda kind: -sizes[kind])
    more = f" and {len(ordered) - _NAMED} more kinds" if len(ordered) > _NAMED else ""
    return ", ".join(ordered[:_NAMED]) + more + _UNSUPPORTED * said


def _counted(profile: Profile, size: int) -> bool:
    table = profile.resources.get(WEIGHT_BYTES)
    if not isinstance(table, ResourceTable):
        return True
    try:
        return table.constant * parse_quantity(f"1 {table.unit}", "byte") >= size * (1 - 1e-9)
    except ValueError:  # a unit of its own
        return True
