"""Profile and request → Problem: units merged, signs and limits settled, every name resolved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from allocator.options import allowed_options, require_options
from allocator.problem import BoolArray, FloatArray, IntArray, Problem
from allocator.profile import CostTable, Profile, ResourceTable
from allocator.request import Request
from allocator.tables import (
    Budget,
    Objective,
    combines_by_max,
    constant_of,
    find_table,
    resolve_budgets,
    resolve_objective,
)


@dataclass(frozen=True, eq=False)
class Compiled:
    """A problem, and the way back from its answer to the names of the profile.

    Attributes:
        problem: Dense arrays over units.
        objective: What is optimised.
        budgets: The budgets, as the request names them.
        tables: (R,) name of the table behind each limit of the problem.
        unit_of_layer: (L,) index of the unit of each layer.
        formats: Column names.
        layers: Row names.
    """

    problem: Problem
    objective: Objective
    budgets: tuple[Budget, ...]
    tables: tuple[str, ...]
    unit_of_layer: IntArray
    formats: tuple[str, ...]
    layers: tuple[str, ...]

    def assignment(self, choice: IntArray) -> dict[str, str]:
        """Name the choice.

        Args:
            choice: (U,) index of the option of each unit.

        Returns:
            Layer name to format name, in the order of the profile.
        """
        columns = choice[self.unit_of_layer]
        return {layer: self.formats[column] for layer, column in zip(self.layers, columns, strict=True)}

    def reported(self, value: float) -> float:
        """Turn an internal (minimised, constant-free) objective into the one the user sees.

        Args:
            value: Objective or bound of the problem.

        Returns:
            The same in the direction and unit of the table.
        """
        return (-value if self.objective.maximise else value) + self.objective.constant


def compile_problem(profile: Profile, request: Request) -> Compiled:
    """Build the arrays that solvers work on.

    Args:
        profile: Layers, formats and tables.
        request: Objective, budgets, pins.

    Returns:
        The problem and the way back.

    Raises:
        InvalidInputError: A name is unknown, an amount unreadable, or a unit is left without a format.
    """
    objective = resolve_objective(profile, request)
    budgets = resolve_budgets(profile, request)
    unit_of_layer = _unit_of_layer(profile)
    allowed = allowed_options(profile, request, [*objective.weights, *(budget.table for budget in budgets)])
    available = _every_layer_of_unit(allowed, unit_of_layer)
    require_options(profile, request, allowed, available, unit_of_layer)

    sign = -1.0 if objective.maximise else 1.0
    cost = sign * sum(
        weight * _values(find_table(profile, name)) for name, weight in objective.weights.items()
    )
    rows = [_sum_row(table, budget) for table, budget in _tightest(profile, budgets)]
    available, impossible = _within_maxima(profile, budgets, available, unit_of_layer)
    merged = _sum_by_unit(np.stack([cost, *(row.spend for row in rows)]), unit_of_layer)  # (1 + R, U, F)
    merged = np.where(available, merged, 0.0)
    problem = Problem(
        cost=merged[0],
        spend=np.concatenate([merged[1:], *(row.spend[None] for row in impossible)]),
        limit=np.array([row.limit for row in (*rows, *impossible)], dtype=float),
        available=available,
        bits=np.array([item.weight_bits for item in profile.formats.values()]),
    )
    return Compiled(
        problem,
        objective,
        budgets,
        tuple(row.table for row in (*rows, *impossible)),
        unit_of_layer,
        tuple(profile.formats),
        tuple(layer.name for layer in profile.layers),
    )


@dataclass(frozen=True, eq=False)
class _Row:
    table: str
    spend: FloatArray  # (L, F), or (U, F) where no plan can meet the limit
    limit: float


def _sum_row(table: CostTable | ResourceTable, budget: Budget) -> _Row:
    sign = -1.0 if budget.at_least else 1.0
    limit = sign * (budget.limit - constant_of(table)) + budget.tolerance
    return _Row(budget.table, sign * _values(table), float(np.floor(limit)) if budget.whole else limit)


def _tightest(
    profile: Profile, budgets: tuple[Budget, ...]
) -> list[tuple[CostTable | ResourceTable, Budget]]:
    # Two budgets on one table (bytes and effective bits) are one row.
    rows: dict[str, tuple[CostTable | ResourceTable, Budget]] = {}
    for budget in budgets:
        table = find_table(profile, budget.table)
        before = rows.get(budget.table)
        if not combines_by_max(table) and (
            before is None or (budget.limit > before[1].limit) == budget.at_least
        ):
            rows[budget.table] = (table, budget)
    return list(rows.values())


def _within_maxima(
    profile: Profile, budgets: tuple[Budget, ...], available: BoolArray, unit_of_layer: IntArray
) -> tuple[BoolArray, list[_Row]]:
    # A limit on a maximum only forbids options. Where it forbids all options of a unit no plan exists; an
    # extra row that counts the options above the limit says so to every solver.
    impossible = []
    for budget in budgets:
        table = find_table(profile, budget.table)
        if not combines_by_max(table):
            continue
        within = _values(table) + constant_of(table) <= budget.limit + budget.tolerance
        kept = available & _every_layer_of_unit(within, unit_of_layer)
        if kept.any(axis=1).all():
            available = kept
        else:
            impossible.append(_Row(budget.table, (available & ~kept).astype(float), 0.0))
    return available, impossible


def _unit_of_layer(profile: Profile) -> IntArray:
    seen: dict[object, int] = {}
    keys = (
        ("alone", index) if layer.unit is None else layer.unit for index, layer in enumerate(profile.layers)
    )
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)


def _values(table: CostTable | ResourceTable) -> FloatArray:
    return np.array(table.values, dtype=float)  # None becomes NaN


def _every_layer_of_unit(flags: BoolArray, unit_of_layer: IntArray) -> BoolArray:
    merged = np.ones((unit_of_layer.max() + 1, flags.shape[1]), dtype=bool)
    np.logical_and.at(merged, unit_of_layer, flags)
    return merged


def _sum_by_unit(values: FloatArray, unit_of_layer: IntArray) -> FloatArray:
    merged = np.zeros((unit_of_layer.max() + 1, values.shape[0], values.shape[2]))
    np.add.at(merged, unit_of_layer, values.transpose(1, 0, 2))
    return merged.transpose(1, 0, 2).copy()
