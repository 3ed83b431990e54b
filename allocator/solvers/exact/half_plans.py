"""Every way to leave the base plan within a reach, as rows of sums to which each unit appends.

A unit that stays at its base changes no sum, so the rows before it stay as they are, and those in which it moves are
copies of some of them with its step added. A row is always behind the one it was made from, so that where it came from
can be followed back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from allocator.knapsack.problem import FloatArray, IntArray
from allocator.solvers.exact.core import Core, Pace

#: From this many rows on, those that spend and cost the same are merged; again when there are twice as many, or ten
#: times where that merged next to none.
_MERGED_FROM = 20_000
_FIRST_ROWS = 256


@dataclass(frozen=True, eq=False)
class Moves:
    """What units can do but stay at the base.

    Attributes:
        unit: (M,) unit of each move, in the order of the core.
        option: (M,) option that it moves to.
        step: (M, R + 2) what the move adds to the spends, the cost, and the reduced cost.
        begin: First move of each unit in the order of the core, and M.
    """

    unit: IntArray
    option: IntArray
    step: FloatArray
    begin: list[int]

    @classmethod
    def within(cls, core: Core, units: int, reach: float) -> Moves:
        """Find the moves whose reduced cost is within reach.

        Args:
            units: How many of its units to look at.
            reach: Most reduced cost.

        Returns:
            The moves.
        """
        problem, order = core.problem, core.order[:units]
        position, option = (core.reduced[order] <= reach).nonzero()  # (M,), positions rise
        unit = order[position]
        base = core.base[unit]
        step = np.empty((unit.size, problem.limits + 2))
        step[:, :-2] = (problem.spend[:, unit, option] - problem.spend[:, unit, base]).T
        step[:, -2] = problem.cost[unit, option] - problem.cost[unit, base]
        step[:, -1] = core.reduced[unit, option]
        return cls(unit, option, step, np.searchsorted(position, np.arange(units + 1)).tolist())


@dataclass(frozen=True, eq=False)
class _Layer:
    # Rows between two merges. Those before the first block are the rows of the layer before that `kept` names.
    kept: IntArray
    parent: IntArray
    blocks: list[tuple[int, int]]  # first row, move


@dataclass(frozen=True, eq=False)
class HalfPlans:
    """Half plans, the base among them.

    Attributes:
        sums: (S, R + 2) spends, cost and reduced cost, relative to the base.
        merged: Whether half plans with equal sums were left out.
        rows: How many were listed on the way.
    """

    sums: FloatArray
    merged: bool
    rows: int
    _moves: Moves
    _layers: list[_Layer]

    @property
    def spend(self) -> FloatArray:
        """(S, R) spends."""
        return self.sums[:, :-2]

    @property
    def cost(self) -> FloatArray:
        """(S,) costs."""
        return self.sums[:, -2]

    def write(self, plan: IntArray, row: int) -> None:
        """Write the moves of a half plan into a plan.

        Args:
            plan: (U,) filled in.
            row: Index of the half plan.
        """
        for layer in reversed(self._layers):
            for first, move in reversed(layer.blocks):
                if row >= first:
                    plan[self._moves.unit[move]] = self._moves.option[move]
                    row = int(layer.parent[row])
            row = int(layer.kept[row])


def list_half_plans(
    moves: Moves, positions: Iterable[int], reach: float, most_rows: int, pace: Pace
) -> HalfPlans | None:
    """List all combinations of moves of some units within a reach.

    Args:
        positions: The units, by their place in the order of the core.
        reach: Most reduced cost of a combination.
        most_rows: Where there would be more, none are listed.
        pace: Tells whether there is time.

    Returns:
        The half plans; None where they are too many, or time is up.
    """
    sums = np.zeros((_FIRST_ROWS, moves.step.shape[1]))
    parent = np.zeros(_FIRST_ROWS, dtype=np.int64)
    kept, blocks, layers = np.zeros(1, dtype=np.int64), list[tuple[int, int]](), list[_Layer]()
    size, listed, merge_from, merged = 1, 1, _MERGED_FROM, False
    room = (reach - moves.step[:, -1]).tolist()
    for position in positions:
        width = size
        if not pace.allows(width):
            return None
        for move in range(moves.begin[position], moves.begin[position + 1]):
            made = (sums[:width, -1] <= room[move]).nonzero()[0]
            first, size = size, size + made.size
            if size > most_rows:
                return None
            if size > parent.size:
                sums, parent = _grown(sums, first, size), _grown(parent, first, size)
            np.add(sums[made], moves.step[move], out=sums[first:size])
            parent[first:size] = made
            blocks.append((first, move))
        listed += size - width
        if size > merge_from:
            layers.append(_Layer(kept, parent[:size].copy(), blocks))
            kept, blocks = _distinct(sums[:size]), []
            merged |= kept.size < size
            merge_from = max(merge_from, (2 if kept.size < 0.9 * size else 10) * kept.size)
            size = kept.size
            sums[:size] = sums[kept]
        pace.took(width)
    layers.append(_Layer(kept, parent[:size], blocks))
    return HalfPlans(sums[:size], merged, listed, moves, layers)


def _grown(values: np.ndarray, used: int, needed: int) -> np.ndarray:
    larger = np.empty((max(2 * len(values), needed), *values.shape[1:]), dtype=values.dtype)
    larger[:used] = values[:used]
    return larger


def _distinct(sums: FloatArray) -> IntArray:
    # The first of all rows that spend and cost the same; equal ones are neighbours in the order of a mixture.
    columns = sums[:, :-1]
    weights = np.sqrt(np.arange(1.0, 1 + columns.shape[1])) / np.maximum(np.ptp(columns, axis=0), 1e-300)
    order = np.argsort((columns * weights).sum(axis=1), kind="stable")
    columns = columns[order]
    again = (columns[1:] == columns[:-1]).all(axis=1)
    distinct: IntArray = order[np.append(True, ~again)]
    return distinct
