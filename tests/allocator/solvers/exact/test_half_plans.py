"""Half plans are all combinations of moves within reach, each with its sums, and lead back to their moves."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from allocator.bounds.dual import maximise_dual
from allocator.knapsack.deadline import NEVER, Deadline
from allocator.solvers.exact import half_plans
from allocator.solvers.exact.core import Core, Pace
from allocator.solvers.exact.half_plans import HalfPlans, Moves, list_half_plans
from tests.allocator.problems import random_problem

REACH = 3.0


def listed(seed: int, limits: int, most_rows: int = 10**6) -> tuple[Core, HalfPlans | None]:
    problem = random_problem(np.random.default_rng(seed), limits=limits)
    core = Core.around(problem, maximise_dual(problem), None)
    units = int(np.searchsorted(core.floor, REACH, side="right"))
    moves = Moves.within(core, units, REACH)
    return core, list_half_plans(moves, range(units - 1, -1, -1), REACH, most_rows, Pace(NEVER))


def combinations(core: Core) -> list[tuple[tuple[int, ...], list[float]]]:
    # Every plan whose reduced costs add up to at most the reach, with its sums relative to the base.
    problem, base, found = core.problem, core.base, []
    reduced = core.reduced.copy()
    reduced[np.arange(problem.units), base] = 0.0
    for plan in product(*(np.flatnonzero(np.isfinite(row)).tolist() for row in reduced)):
        chosen = np.array(plan)
        price = reduced[np.arange(problem.units), chosen].sum()
        if price <= REACH:
            spend = problem.used(chosen) - problem.used(base)
            found.append(
                (plan, [*spend.tolist(), problem.objective(chosen) - problem.objective(base), price])
            )
    return found


@pytest.mark.parametrize("limits", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_lists_what_a_loop_over_all_plans_finds(limits: int, seed: int) -> None:
    core, half = listed(seed, limits)
    assert half is not None
    expected = dict(combinations(core))
    plans = []
    for row in range(len(half.sums)):
        plan = core.base.copy()
        half.write(plan, row)
        plans.append(tuple(plan.tolist()))
        np.testing.assert_allclose(half.sums[row], expected[plans[-1]], atol=1e-9)
    assert sorted(plans) == sorted(expected)


@pytest.mark.parametrize("seed", range(20))
def test_merging_keeps_one_of_equal_sums(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_plans, "_MERGED_FROM", 2)
    core, half = listed(seed, 2)
    assert half is not None
    sums = {tuple(np.round(item, 9).tolist()[:-1]) for _, item in combinations(core)}
    assert {tuple(row) for row in np.round(half.sums[:, :-1], 9).tolist()} == sums
    for row in range(len(half.sums)):
        plan = core.base.copy()
        half.write(plan, row)
        assert core.problem.objective(plan) - core.base_cost == pytest.approx(half.cost[row], abs=1e-9)


def test_lists_nothing_where_there_are_too_many_or_no_time() -> None:
    core, half = listed(4, 1)
    assert half is not None
    assert len(half.sums) > 2
    assert listed(4, 1, most_rows=2)[1] is None
    moves = Moves.within(core, core.order.size, REACH)
    assert list_half_plans(moves, range(core.order.size), REACH, 10**6, Pace(Deadline(0.0))) is None
