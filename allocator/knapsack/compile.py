"""Profile and request → Problem: units merged, fusions expanded, signs and limits settled, every name resolved."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from allocator.contract.errors import Fault, InvalidInputError, pointer
from allocator.contract.profile import CostTable, Profile
from allocator.contract.request import Request
from allocator.knapsack.constraint import Constraint, largest_sum
from allocator.knapsack.constraints import resolve_limits
from allocator.knapsack.exact_sums import LARGEST_EXACT
from allocator.knapsack.fused_sets import expand_fusions
from allocator.knapsack.pins import allowed_options, require_options
from allocator.knapsack.problem import BoolArray, FloatArray, IntArray, Problem
from allocator.knapsack.tables import (
    Objective,
    find_table,
    is_maximised,
    resolve_objectives,
    values_of,
)


@dataclass(frozen=True, eq=False)
class Compiled:
    """A problem, and the way back from its answer to the names of the profile.

    Attributes:
        problem: Dense arrays over sets of units; the cost is that of the first objective.
        objectives: What is optimised, in falling order of importance.
        costs: (K, U, O) costs of every objective.
        rows: The budgets and limits, as the request names them.
        sides: For each limit of the problem the row behind it, and the sign that made it an upper limit.
        formats_of_option: (L, O) format of each layer in each option of its set.
        set_of_layer: (L,) index of the set of each layer.
        allowed: (L, F) formats that tables, pins, lists and units leave to each layer.
        fusions_of_option: (set, option) → fusions used; empty ones left out.
        profile: The profile.
    """

    problem: Problem
    objectives: tuple[Objective, ...]
    costs: FloatArray
    rows: tuple[Constraint, ...]
    sides: tuple[tuple[Constraint, float], ...]
    formats_of_option: IntArray
    set_of_layer: IntArray
    allowed: BoolArray
    fusions_of_option: Mapping[tuple[int, int], tuple[int, ...]]
    profile: Profile

    def assignment(self, choice: IntArray) -> dict[str, str]:
        """Name the choice.

        Args:
            choice: (U,) index of the option of each set.

        Returns:
            Layer name to format name, in the order of the profile.
        """
        columns = self.formats_of_option[np.arange(self.set_of_layer.size), choice[self.set_of_layer]]
        names = list(self.profile.formats)
        return {layer.name: names[column] for layer, column in zip(self.profile.layers, columns, strict=True)}

    def fusions(self, choice: IntArray) -> tuple[str, ...]:
        """Name the fusions that a choice uses.

        Args:
            choice: (U,) index of the option of each set.

        Returns:
            Names, in the order of the sets.
        """
        if not self.fusions_of_option:
            return ()
        used = (self.fusions_of_option.get((unit, option), ()) for unit, option in enumerate(choice.tolist()))
        return tuple(self.profile.fusions[index].name for fused in used for index in fused)


def compile_problem(profile: Profile, request: Request) -> Compiled:
    """Build the arrays that solvers work on.

    Args:
        profile: Layers, formats and tables.
        request: Objectives, budgets, limits, pins.

    Returns:
        The problem and the way back.

    Raises:
        InvalidInputError: A name is unknown, an amount unreadable, a unit is left without a format, or integers are too
            large to be added up.
    """
    objectives = resolve_objectives(profile, request)
    rows = resolve_limits(profile, request)
    _require_exact_sums(profile, rows)
    unit_of_layer = _unit_of_layer(profile)
    costs = [_objective_values(profile, objective) for objective in objectives]
    spends = [sign * _row_values(profile, row) for row, sign in _sides(rows)]
    peaks = [_row_values(profile, row) for row in rows if row.peak]
    allowed = allowed_options(profile, request, np.stack([*costs, *spends, *peaks]))
    available = _every_layer_of_unit(allowed, unit_of_layer)
    require_options(profile, request, allowed, available, unit_of_layer)
    available, impossible = _within_peaks(profile, rows, available, unit_of_layer)
    sides = [*_sides(rows), *((row, 1.0) for row, _ in impossible)]

    layered = np.where(allowed, np.stack([*costs, *spends]), 0.0)  # (K + R, L, F)
    merged = _sum_by_unit(layered, unit_of_layer)
    merged = np.concatenate([merged, *(counted[None].astype(float) for _, counted in impossible)])
    merged = np.where(available, merged, 0.0)
    expanded = expand_fusions(profile, objectives, sides, merged, available, unit_of_layer)
    limits = np.array([_side_limit(row, sign) if not row.peak else 0.0 for row, sign in sides], dtype=float)
    assert np.isfinite(expanded.values).all(), "a number that is not in play got into the problem"
    goals = len(objectives)
    problem = Problem(
        cost=expanded.values[0],
        spend=expanded.values[goals:],
        limit=limits,
        available=expanded.available,
        label=expanded.label,
        bits=np.array([item.weight_bits for item in profile.formats.values()]),
        demand=np.array([sign < 0 and not _more_is_better(profile, row) for row, sign in sides], dtype=bool),
    )
    return Compiled(
        problem=problem,
        objectives=objectives,
        costs=expanded.values[:goals],
        rows=rows,
        sides=tuple(sides),
        formats_of_option=expanded.formats_of_option,
        set_of_layer=expanded.set_of_unit[unit_of_layer],
        allowed=available[unit_of_layer],
        fusions_of_option=expanded.fusions_of_option,
        profile=profile,
    )


def with_cost(compiled: Compiled, goal: int) -> Problem:
    """The problem with another of its objectives.

    Args:
        goal: Index of the objective.

    Returns:
        The problem.
    """
    return replace(compiled.problem, cost=compiled.costs[goal])


def with_rows(compiled: Compiled, rows: Sequence[Constraint]) -> Compiled | None:
    """The same tables under other amounts.

    Returns:
        What compiling the request with these amounts would give; None where other amounts change more than limits
        (peaks rule out options, and of two rows over the same numbers the other one may be the tighter).
    """
    sides = _sides(rows)
    same = [(row.name, sign) for row, sign in sides] == [(row.name, sign) for row, sign in compiled.sides]
    if not same or any(row.peak for row in rows):
        return None
    limits = np.array([_side_limit(row, sign) for row, sign in sides], dtype=float)
    return replace(
        compiled, problem=replace(compiled.problem, limit=limits), rows=tuple(rows), sides=tuple(sides)
    )


def limits_of(
    compiled: Compiled, without: Constraint, but: Collection[float] = ()
) -> tuple[FloatArray, FloatArray]:
    """The limits that are left when one row gives way; another row over the same numbers stays.

    Args:
        but: Sides of the row that stay all the same: 1 for its high amount, -1 for its low one.

    Returns:
        (R', U, O) spends and (R',) limits.
    """
    stay = [
        replace(row, high=row.high if 1.0 in but else None, low=row.low if -1.0 in but else None)
        if row is without
        else row
        for row in compiled.rows
    ]
    at = {(row.scope, sign): index for index, (row, sign) in enumerate(compiled.sides) if not row.peak}
    kept = [(at[row.scope, sign], _side_limit(row, sign)) for row, sign in _sides(stay)]
    kept += [
        (index, float(compiled.problem.limit[index]))
        for index, (row, _) in enumerate(compiled.sides)
        if row.peak and row is not without
    ]
    indices = [index for index, _ in kept]
    return compiled.problem.spend[indices], np.array([limit for _, limit in kept], dtype=float)


def _require_exact_sums(profile: Profile, rows: Sequence[Constraint]) -> None:
    # Sums of integers are compared exactly, and doubles cannot do that beyond 2⁵³ times what divides all of them.
    faults: dict[str, Fault] = {}
    for row in rows:
        if row.table is None or row.peak or not row.whole or row.table in faults:
            continue
        most = largest_sum(profile, row.table)
        if most >= LARGEST_EXACT * row.grain:
            kind = "costs" if row.table in profile.costs else "resources"
            divided = f" times the largest power of two that divides them all, {row.grain:.4g}"
            detail = (
                f"its integers add up to {most:.4g}, and sums beyond 2**53 (9.007e+15)"
                f"{divided if row.grain > 1 else ''} cannot be compared exactly; give the table in a larger unit"
            )
            faults[row.table] = Fault(pointer((kind, row.table)), detail)
    if faults:
        raise InvalidInputError(*faults.values())


def _objective_values(profile: Profile, objective: Objective) -> FloatArray:
    sign = -1.0 if objective.maximise else 1.0
    total = np.zeros((len(profile.layers), len(profile.formats)))
    for name, weight in objective.weights.items():
        table = find_table(profile, name)
        values = sign * values_of(table)
        if objective.caution and isinstance(table, CostTable) and table.stderr is not None:
            values = values + objective.caution * np.array(table.stderr, dtype=float)
        total = total + weight * values
    return total


def _row_values(profile: Profile, row: Constraint) -> FloatArray:
    shape = (len(profile.layers), len(profile.formats))
    inside = np.zeros(shape, dtype=bool)
    inside[np.ix_(row.layers, row.formats)] = True
    values = np.ones(shape) if row.table is None else values_of(find_table(profile, row.table))
    return np.where(inside, values, 0.0)


def _sides(rows: Sequence[Constraint]) -> list[tuple[Constraint, float]]:
    # Rows of equal scope (bytes and effective bits) share one limit, the tightest.
    tightest: dict[tuple[object, ...], tuple[Constraint, float]] = {}
    for row in rows:
        for sign, amount in ((1.0, row.high), (-1.0, row.low)):
            if amount is None or row.peak:
                continue
            before = tightest.get((*row.scope, sign))
            if before is None or _side_limit(row, sign) < _side_limit(*before):
                tightest[*row.scope, sign] = (row, sign)
    return list(tightest.values())


def _side_limit(row: Constraint, sign: float) -> float:
    amount = row.high if sign > 0 else row.low
    assert amount is not None
    limit = sign * (amount - row.constant) + row.tolerance(amount)
    return float(np.floor(limit / row.grain) * row.grain) if row.whole else limit


def _more_is_better(profile: Profile, row: Constraint) -> bool:
    return row.table is not None and is_maximised(find_table(profile, row.table))


def _within_peaks(
    profile: Profile, rows: Sequence[Constraint], available: BoolArray, unit_of_layer: IntArray
) -> tuple[BoolArray, list[tuple[Constraint, BoolArray]]]:
    # A limit on a maximum only forbids options. Where it forbids all options of a unit no plan exists; a row that
    # counts the options above the limit says so to every solver.
    impossible = []
    for row in rows:
        if not row.peak:
            continue
        assert row.high is not None
        most = row.high - row.constant + row.tolerance(row.high)
        within = ~(_row_values(profile, row) > most)
        kept = available & _every_layer_of_unit(within, unit_of_layer)
        if kept.any(axis=1).all():
            available = kept
        else:
            impossible.append((row, available & ~kept))
    return available, impossible


def _unit_of_layer(profile: Profile) -> IntArray:
    seen: dict[object, int] = {}
    keys = (
        ("alone", index) if layer.unit is None else layer.unit for index, layer in enumerate(profile.layers)
    )
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)


def _every_layer_of_unit(flags: BoolArray, unit_of_layer: IntArray) -> BoolArray:
    merged = np.ones((unit_of_layer.max() + 1, flags.shape[1]), dtype=bool)
    np.logical_and.at(merged, unit_of_layer, flags)
    return merged


def _sum_by_unit(values: FloatArray, unit_of_layer: IntArray) -> FloatArray:
    merged = np.zeros((unit_of_layer.max() + 1, values.shape[0], values.shape[2]))
    np.add.at(merged, unit_of_layer, values.transpose(1, 0, 2))
    return merged.transpose(1, 0, 2).copy()
