r"""Meeting in the middle: every plan whose cost is within reach of the bound, from two lists of half plans.

With multipliers λ, bound L and the base plan (the minimiser of the Lagrangian) a plan costs

.. math:: c = L + \sum_u \rho_{u,x_u} + \sum_r \lambda_r \, (b_r - w_r)

where :math:`w_r` is what it spends. So a plan that costs at most L + reach moves units off the base by reduced costs ρ
that add up to at most the reach, and leaves at most reach / λ_r of every limit unused. The units are dealt out to two
halves; each lists the moves within reach, and a half plan then looks for pairs in the small window of spends that
the limits and the reach leave. Where several limits leave no dominance between states, this takes the square root of
the states that one list would need. The reach grows until a plan is found: then it is the best.

Source: E. Horowitz and S. Sahni, "Computing partitions with applications to the knapsack problem", Journal of the ACM
21(2), 1974, here with a reach in reduced costs and several limits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from allocator.bounds.dual import Dual
from allocator.knapsack.bands import Bands
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import FloatArray, IntArray, Problem
from allocator.solvers.exact.core import Core, Expansion, Pace
from allocator.solvers.exact.half_plans import HalfPlans, Moves, list_half_plans
from allocator.solvers.exact.pair_join import Pairs
from allocator.solvers.outcome import Effort

#: Moves within the first reach, and how many more there are within each next one.
_FIRST_MOVES, _GROWTH = 30, 1.25
#: Most pairs of half plans to compare, as a multiple of the most states.
_PAIRS_PER_STATE = 25
#: Pairs between two looks at the clock.
_PAIRS_AT_ONCE = 100_000
#: Looking for the partner of a half plan takes as long as listing so many.
_LISTED_PER_PARTNER = 4


def meet_in_the_middle(
    problem: Problem, dual: Dual, start: IntArray | None, effort: Effort, most_states: int
) -> Expansion:
    """Search everything within a reach that grows until the incumbent is proved.

    Args:
        problem: A problem with at least one limit.
        start: (U,) a plan that keeps the limits, if one is known.
        most_states: Most states in a half; the search stops where there would be more.

    Returns:
        The incumbent and what is proved of it. The bound stays below the incumbent where time ran out, the gap was
        good enough, or there were too many states.
    """
    core, deadline = Core.around(problem, dual, start), Deadline(effort.time_limit_s)
    bands = Bands.of(problem)
    prices = np.sort(core.reduced[core.reduced < core.excess])
    moves, proved, merged, states, units = _FIRST_MOVES, 0.0, False, 0, 0
    while proved < core.excess and not _good_enough(core, proved, effort.gap):
        reach = min(core.excess, float(prices[moves]) if moves < prices.size else np.inf)
        moves = int(moves * _GROWTH) + 1
        halves = _Halves(core, bands, reach, most_states, deadline)
        finished = halves.join()
        states, units, merged = states + halves.states, max(units, halves.units), merged or halves.merged
        if not finished:
            break
        proved = reach if reach >= core.excess else max(proved, reach - core.tolerance.reduced)
    complete = proved >= core.excess
    bound = np.inf if complete else dual.bound + proved
    if core.choice is not None:
        bound = min(bound, problem.objective(core.choice))
    canonical = complete and core.all_rivals and not merged
    return Expansion(core.choice, bound, canonical, {"half_units": units, "half_states": states})


def _good_enough(core: Core, proved: float, gap: float) -> bool:
    return core.choice is not None and core.excess - proved <= gap * abs(core.base_cost + core.cost)


class _Halves:
    """Everything within one reach."""

    def __init__(self, core: Core, bands: Bands, reach: float, most_states: int, deadline: Deadline) -> None:
        self.core = core
        self.bands = bands
        self.reach = reach
        self.most_states = most_states
        self.deadline = deadline
        self.pace = Pace(deadline)
        self.units = int(np.searchsorted(core.floor, reach, side="right"))
        self.moves = Moves.within(core, self.units, reach)
        self.states = 0
        self.merged = False

    def join(self) -> bool:
        # Whether everything within reach was seen.
        start = time.monotonic()
        left = self._listed(
            range(self.units - 1, -1, -2)
        )  # dear moves first: the cheap ones make most states
        right = None if left is None else self._listed(range(self.units - 2, -1, -2))
        if left is None or right is None:
            return False
        seconds_per_row = (time.monotonic() - start) / (left.rows + right.rows)
        left_s, rows = self.deadline.left_s(), left.cost.size + right.cost.size
        if left_s is not None and _LISTED_PER_PARTNER * seconds_per_row * rows > left_s:
            return False
        low, high = self._wanted()
        if (low > high).any():
            return True
        upper = self.bands.upper
        pairs = Pairs(left.spend[:, upper], right.spend[:, upper], high, high - low)
        if pairs.pairs > _PAIRS_PER_STATE * self.most_states:
            return False
        pace = Pace(self.deadline)  # a pair takes longer than a half plan
        for of_left, of_right in pairs.batches():
            for first in range(0, of_left.size, _PAIRS_AT_ONCE):
                some = slice(first, min(first + _PAIRS_AT_ONCE, of_left.size))
                if not pace.allows(some.stop - first):
                    return False
                self._compare(left, right, of_left[some], of_right[some])
                pace.took(some.stop - first)
        return True

    def _wanted(self) -> tuple[FloatArray, FloatArray]:
        # (B,) amounts between which a plan within reach spends of every row, relative to the base. A limit keeps it
        # from one side, and the price of the limit from the other: what is left unused costs reach.
        core, bands = self.core, self.bands
        room = core.slack + core.tolerance.spend  # (R,)
        unused = np.full(room.size, np.inf)
        np.divide(self.reach, core.multipliers, out=unused, where=core.multipliers > 0)
        far = core.slack - unused - core.tolerance.spend  # (R,) the least that a plan spends of each limit
        low, high = far[bands.upper], room[bands.upper]
        lower = bands.lower[bands.signed]
        low[bands.signed] = np.maximum(low[bands.signed], -room[lower])
        high[bands.signed] = np.minimum(high[bands.signed], -far[lower])
        return low, high

    def _listed(self, positions: Sequence[int]) -> HalfPlans | None:
        half = list_half_plans(self.moves, positions, self.reach, self.most_states, self.pace)
        if half is not None:
            self.states += half.rows
            self.merged |= half.merged
        return half

    def _compare(self, left: HalfPlans, right: HalfPlans, of_left: IntArray, of_right: IntArray) -> None:
        core = self.core
        cost = left.cost[of_left] + right.cost[of_right]
        good = (cost <= core.cost + core.tolerance.cost).nonzero()[0]
        of_left, of_right = of_left[good], of_right[good]

        def plan(index: int) -> IntArray:
            whole = core.base.copy()
            left.write(whole, int(of_left[index]))
            right.write(whole, int(of_right[index]))
            return whole

        core.take_best(left.spend[of_left] + right.spend[of_right], cost[good], plan)
