"""The fusions of a profile against the numbers in play of a request: which sets of units get joint options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from allocator.contract.errors import Fault, InvalidInputError, pointer
from allocator.contract.profile import Profile
from allocator.knapsack.constraint import Constraint
from allocator.knapsack.joint_options import JointOptions, Part, connected_sets, joint_options
from allocator.knapsack.problem import BoolArray, FloatArray, IntArray
from allocator.knapsack.tables import Objective, values_of


@dataclass(frozen=True, eq=False)
class Expanded:
    """Numbers in play by set of connected units.

    Attributes:
        values: (V, S, O) every number in play.
        available: (S, O) whether a set has an option.
        label: (S, O) format of options that give all units one format, else -1.
        formats_of_option: (L, O) format of each layer in each option of its set.
        set_of_unit: (U,) index of the set of each unit.
        fusions_of_option: (set, option) → fusions used; empty ones left out.
    """

    values: FloatArray
    available: BoolArray
    label: IntArray
    formats_of_option: IntArray
    set_of_unit: IntArray
    fusions_of_option: Mapping[tuple[int, int], tuple[int, ...]]


def expand_fusions(
    profile: Profile,
    objectives: Sequence[Objective],
    sides: Sequence[tuple[Constraint, float]],
    merged: FloatArray,
    available: BoolArray,
    unit_of_layer: IntArray,
) -> Expanded:
    """Turn units that fusions connect into sets with joint options.

    Args:
        objectives: What is optimised.
        sides: The limits, as rows and signs.
        merged: (V, U, F) every number in play: objectives first, then limits.
        available: (U, F) formats that each unit can have.
        unit_of_layer: (L,) index of the unit of each layer.

    Returns:
        The sets; units themselves where no fusion changes a number in play.

    Raises:
        InvalidInputError: A fusion splits a unit, a limit splits a fusion, or a set has too many joint options.
    """
    parts = _fused_parts(profile, objectives, sides, merged, available, unit_of_layer)
    units, formats = available.shape
    if not parts:
        columns = np.arange(formats)
        label = np.broadcast_to(columns, (units, formats))
        of_layer = np.broadcast_to(columns, (unit_of_layer.size, formats))
        return Expanded(merged, available, label, of_layer, np.arange(units), {})
    groups = connected_sets(units, [part.units for part in parts])
    joint = [_joint(group, parts, merged, available, profile) for group in groups]
    width = max(item.formats.shape[0] for item in joint)
    values = np.zeros((merged.shape[0], len(groups), width))
    exists, label = np.zeros((len(groups), width), dtype=bool), np.full((len(groups), width), -1)
    of_unit, set_of_unit = np.zeros((units, width), dtype=np.int64), np.empty(units, dtype=np.int64)
    used: dict[tuple[int, int], tuple[int, ...]] = {}
    for index, item in enumerate(joint):
        count = item.formats.shape[0]
        values[:, index, :count] = item.values
        exists[index, :count] = True
        same = (item.formats == item.formats[:, :1]).all(axis=1)
        label[index, :count] = np.where(same, item.formats[:, 0], -1)
        of_unit[item.units, :count] = item.formats.T
        set_of_unit[item.units] = index
        used |= {(index, option): fused for option, fused in enumerate(item.fusions) if fused}
    return Expanded(values, exists, label, of_unit[unit_of_layer], set_of_unit, used)


def _joint(
    group: Sequence[int], parts: Sequence[Part], merged: FloatArray, available: BoolArray, profile: Profile
) -> JointOptions:
    members = set(group)
    singles = [Part((unit,), None, merged[:, unit], available[unit]) for unit in group]
    fused = [part for part in parts if members.issuperset(part.units)]
    if fused:
        return joint_options(group, [*singles, *fused], profile.fusions)
    columns = np.flatnonzero(available[group[0]])
    return JointOptions(np.array(group), merged[:, group[0], columns], columns[:, None], ((),) * columns.size)


def _fused_parts(
    profile: Profile,
    objectives: Sequence[Objective],
    sides: Sequence[tuple[Constraint, float]],
    merged: FloatArray,
    available: BoolArray,
    unit_of_layer: IntArray,
) -> list[Part]:
    index_of = {layer.name: index for index, layer in enumerate(profile.layers)}
    parts = []
    for at, fusion in enumerate(profile.fusions):
        layers = sorted(index_of[name] for name in fusion.layers)
        units = sorted(set(unit_of_layer[layers].tolist()))
        if np.isin(unit_of_layer, units).sum() != len(layers):
            detail = (
                f"{fusion.name!r} holds only part of a unit, whose layers share every choice; add the others"
            )
            raise InvalidInputError(Fault(pointer(("fusions", at, "layers")), detail))
        values = merged[:, units].sum(axis=1)  # (V, F)
        exists: BoolArray = np.logical_and.reduce(available[units], axis=0)
        changes = False
        for name, row in fusion.resources.items():
            fused = np.array(row, dtype=float)  # (F,)
            exists = exists & ~np.isnan(fused)
            extra = np.where(np.isnan(fused), 0.0, fused) - values_of(profile.resources[name])[layers].sum(
                axis=0
            )
            for index, weight in _shares(profile, name, objectives, sides, layers, fusion.name):
                # What a limit does not count may be null: 0 × NaN would be NaN.
                values[index] += np.where(exists & (weight != 0), weight * extra, 0.0)
                changes = True
        if changes and exists.any():
            parts.append(Part(tuple(units), at, values, exists))
    return parts


def _shares(
    profile: Profile,
    name: str,
    objectives: Sequence[Objective],
    sides: Sequence[tuple[Constraint, float]],
    layers: Sequence[int],
    fusion: str,
) -> list[tuple[int, FloatArray]]:
    # How much of a fused kernel's spend each number in play counts, by format.
    formats = len(profile.formats)
    shares = [
        (index, np.full(formats, objective.weights[name]))
        for index, objective in enumerate(objectives)
        if name in objective.weights
    ]
    for index, (row, sign) in enumerate(sides, start=len(objectives)):
        inside = len(set(layers) & set(row.layers))
        if row.table != name or row.peak or not inside:
            continue
        if inside != len(layers):
            detail = (
                f"covers only part of the layers of fusion {fusion!r}, whose spend cannot be split; widen it"
            )
            raise InvalidInputError(Fault(f"/limits ({row.name})", detail))
        weight = np.zeros(formats)
        weight[list(row.formats)] = sign
        shares.append((index, weight))
    return shares
