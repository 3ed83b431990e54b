"""Layers that may run as one kernel: every way to fuse and format a connected set, as the options of one unit.

A set of units connected by fusions gets joint options: a partition of the set into fused and single parts, and a
format for each part. Partial plans over the same units are compared as they are built, and those that another beats
in every number in play are dropped, so that few of the many combinations survive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from allocator.contract.errors import Fault, InvalidInputError, pointer
from allocator.contract.profile import Fusion
from allocator.knapsack.problem import BoolArray, FloatArray, IntArray

#: More joint options than this for one set are refused rather than enumerated.
MOST_JOINT_OPTIONS = 10_000
#: The same for the options of all parts of a set together, which take the time.
_MOST_PARTIAL_OPTIONS = 100_000


@dataclass(frozen=True, eq=False)
class Part:
    """Units that run as one, and what that spends in each format.

    Attributes:
        units: Indices of the units, rising.
        fusion: Index of the fusion; None for a unit on its own.
        values: (V, F) every number in play.
        available: (F,) formats that the part can have.
    """

    units: tuple[int, ...]
    fusion: int | None
    values: FloatArray
    available: BoolArray


@dataclass(frozen=True, eq=False)
class JointOptions:
    """The options of one connected set.

    Attributes:
        units: (K,) indices of the units, rising.
        values: (V, O) every number in play.
        formats: (O, K) format of each unit.
        fusions: For each option the fusions that it uses.
    """

    units: IntArray
    values: FloatArray
    formats: IntArray
    fusions: tuple[tuple[int, ...], ...]


def connected_sets(units: int, members: Iterable[Sequence[int]]) -> list[list[int]]:
    """Group units that fusions connect.

    Args:
        units: Number of units.
        members: Units of each fusion.

    Returns:
        The sets in the order of their first unit; units without fusions stand alone.

    Example:
        >>> connected_sets(5, [(0, 2), (2, 4)])
        [[0, 2, 4], [1], [3]]
    """
    leader = list(range(units))

    def find(unit: int) -> int:
        while leader[unit] != unit:
            leader[unit] = leader[leader[unit]]
            unit = leader[unit]
        return unit

    for joined in members:
        for unit in joined[1:]:
            low, high = sorted((find(joined[0]), find(unit)))
            leader[high] = low
    groups: dict[int, list[int]] = {}
    for unit in range(units):
        groups.setdefault(find(unit), []).append(unit)
    return list(groups.values())


def joint_options(units: Sequence[int], parts: Sequence[Part], fusions: Sequence[Fusion]) -> JointOptions:
    """Enumerate the options of a connected set, without those that another beats.

    Args:
        units: The units, rising.
        parts: Every single unit and every fusion of the set.
        fusions: All fusions of the profile, for messages.

    Returns:
        The options that matter. Of plans that give all units one format the best is always kept, for baselines.

    Raises:
        InvalidInputError: There are too many; says what to leave out.
    """
    bit = {unit: 1 << index for index, unit in enumerate(units)}
    masks = [sum(bit[unit] for unit in part.units) for part in parts]
    full = (1 << len(units)) - 1
    count = parts[0].values.shape[0]
    plans = {0: _Plans(np.zeros((count, 1)), np.full((1, len(units)), -1), ((),))}
    options = 1
    while (covered := min(plans)) != full:  # what is covered only grows, so the least is complete
        before = plans.pop(covered)
        lowest = ~covered & (covered + 1)  # the first unit that is not covered yet
        for part, mask in zip(parts, masks, strict=True):
            if mask & lowest and not mask & covered:
                grown = _extend(before, part, units)
                joined = covered | mask
                options += grown.values.shape[1]
                if options > _MOST_PARTIAL_OPTIONS:
                    raise InvalidInputError(_too_many(parts, fusions))
                plans[joined] = grown if joined not in plans else _join(plans[joined], grown)
                if plans[joined].values.shape[1] > MOST_JOINT_OPTIONS:
                    raise InvalidInputError(_too_many(parts, fusions))
                plans[joined] = _undominated(plans[joined])
    done = plans[full]
    return JointOptions(np.array(units), done.values, done.formats, done.fusions)


@dataclass(frozen=True, eq=False)
class _Plans:
    values: FloatArray  # (V, O)
    formats: IntArray  # (O, K), -1 where a unit is not covered yet
    fusions: tuple[tuple[int, ...], ...]


def _extend(before: _Plans, part: Part, units: Sequence[int]) -> _Plans:
    columns = np.flatnonzero(part.available)
    values = (before.values[:, :, None] + part.values[:, None, columns]).reshape(before.values.shape[0], -1)
    formats = np.repeat(before.formats, columns.size, axis=0)
    chosen = np.tile(columns, before.formats.shape[0])
    for unit in part.units:
        formats[:, units.index(unit)] = chosen
    used = () if part.fusion is None else (part.fusion,)
    return _Plans(values, formats, tuple(names + used for names in before.fusions for _ in columns))


def _join(one: _Plans, other: _Plans) -> _Plans:
    return _Plans(
        np.concatenate([one.values, other.values], axis=1),
        np.concatenate([one.formats, other.formats]),
        one.fusions + other.fusions,
    )


def _undominated(plans: _Plans) -> _Plans:
    values, formats = plans.values, plans.formats
    order = np.lexsort(values[::-1])  # whatever beats a plan comes before it
    kept: list[int] = []
    better = np.empty_like(values)  # (V, O), those kept
    uniform: set[int] = set()
    for option in order.tolist():
        covered = formats[option][formats[option] >= 0]
        same = int(covered[0]) if covered.size and (covered == covered[0]).all() else None
        beaten = bool((better[:, : len(kept)] <= values[:, option, None]).all(axis=0).any())
        if not beaten or (same is not None and same not in uniform):
            better[:, len(kept)] = values[:, option]
            kept.append(option)
            if same is not None:
                uniform.add(same)
    kept.sort()
    return _Plans(values[:, kept], formats[kept], tuple(plans.fusions[option] for option in kept))


def _too_many(parts: Sequence[Part], fusions: Sequence[Fusion]) -> Fault:
    used = [part.fusion for part in parts if part.fusion is not None]
    names = ", ".join(repr(fusions[index].name) for index in used[:6]) + (", …" if len(used) > 6 else "")
    detail = (
        f"the fusions {names} connect so many layers that a set has over {MOST_JOINT_OPTIONS:,} joint options; leave "
        "out fusions that no plan would use, tie layers with units, or forbid formats"
    )
    return Fault(pointer(("fusions", used[0])), detail)
