"""The fallbacks for cores with too many states, forced by narrowing what the expansion may keep."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.contract.status import Status
from allocator.solvers.exact import expanding_core
from allocator.solvers.exact import search as exact
from allocator.solvers.outcome import Effort
from tests.allocator.problems import LIBRARY, brute_force, random_problem
from tests.allocator.solvers.exact.test_early_stop import hard


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_ONE_LIMIT", "_SEVERAL_LIMITS"):
        monkeypatch.setattr(exact, name, (("states", 1), ("nodes", None), ("branches", None)))
    monkeypatch.setattr(expanding_core, "_FEW", 0)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", [name for name in LIBRARY if not name.startswith("huge")])
def test_the_library_is_still_solved_and_proved(name: str) -> None:
    problem, best = LIBRARY[name], brute_force(LIBRARY[name])
    outcome = exact.solve(problem, Effort())
    if best is None:
        assert outcome.status is Status.INFEASIBLE
    else:
        assert outcome.status is Status.OPTIMAL
        assert outcome.bound == pytest.approx(best.objective, rel=1e-9, abs=1e-9)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("limits", [1, 2, 3])
def test_random_problems_are_still_solved_and_proved(limits: int) -> None:
    rng = np.random.default_rng(100 + limits)
    used = 0
    for trial in range(60):
        problem = random_problem(rng, limits=limits)
        best, outcome = brute_force(problem), exact.solve(problem, Effort())
        used += "mip_units" in outcome.work
        if best is None:
            assert outcome.status is Status.INFEASIBLE, trial
        else:
            assert outcome.status is Status.OPTIMAL, trial
            assert outcome.choice is not None
            assert problem.objective(outcome.choice) == pytest.approx(best.objective, rel=1e-9, abs=1e-9), (
                trial
            )
    assert used or limits == 1


@pytest.mark.usefixtures("narrow")
def test_both_ways_agree_on_a_larger_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = hard(units=12, limits=2, seed=4)
    by_mip = exact.solve(problem, Effort())
    assert by_mip.work["nodes"] >= 0
    monkeypatch.undo()
    by_states = exact.solve(problem, Effort())
    assert "nodes" not in by_states.work
    assert by_mip.status is by_states.status is Status.OPTIMAL
    assert by_mip.bound == pytest.approx(by_states.bound, rel=1e-9)
