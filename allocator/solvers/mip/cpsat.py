"""The whole model through OR-Tools CP-SAT: a cross-check by a solver that works in integers throughout."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from ortools.sat.python import cp_model

from allocator.knapsack.deadline import Deadline, stop_asked
from allocator.knapsack.problem import FloatArray, Problem
from allocator.solvers.mip.proving import Answer, solve_whole
from allocator.solvers.mip.scaling import ScaledProblem
from allocator.solvers.outcome import Effort, Outcome

#: What building and presolving a model takes, roughly.
_SECONDS_PER_BINARY = 5e-5
#: Branches without any other limit, and CP-SAT's own measure of work, near to seconds, for each.
_DEFAULT_BRANCHES, _TIME_PER_BRANCH = 2_000, 0.01
#: Sums of scaled coefficients stay below this; CP-SAT's own arithmetic needs headroom up to 2⁶².
_LARGEST_SUM = 2**53
#: How often to look whether somebody asked to stop.
_EVERY_S = 0.2


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Solve the whole model with CP-SAT, and prove the plan that it finds.

    Tables that hold integers stay exact; others are rounded to a grid of 2⁻⁵³ of their sum.

    Args:
        effort: Gap and time limit.

    Returns:
        The outcome, with the number of branches.
    """
    return solve_whole(problem, effort, find, _SECONDS_PER_BINARY)


def find(problem: Problem, effort: Effort) -> Answer:
    """Ask CP-SAT for a plan.

    Args:
        effort: Gap and time limit.

    Returns:
        What CP-SAT says.
    """
    deadline = Deadline(effort.time_limit_s)
    scaled = ScaledProblem(problem, problem.limit)
    model = cp_model.CpModel()
    taken = [model.new_bool_var("") for _ in range(scaled.unit.size)]
    for first, end in scaled.spans():
        model.add_exactly_one(taken[first:end])
    for row, limit in zip(scaled.spend, scaled.limit, strict=True):
        grid = _grid(row, scaled)
        # Rounded spends leave more room, never less; plans are checked afterwards.
        spare = 0 if grid == 1.0 else 1
        weights = np.floor(row / grid).astype(np.int64) - spare
        most = int(np.floor(limit / grid)) + spare
        model.add(cp_model.LinearExpr.weighted_sum(taken, weights.tolist()) <= most)
    grid = _grid(scaled.cost, scaled)
    prices = np.rint(scaled.cost / grid).astype(np.int64)
    model.minimize(cp_model.LinearExpr.weighted_sum(taken, prices.tolist()))
    solver = cp_model.CpSolver()
    solver.parameters.random_seed = 0
    solver.parameters.num_workers = 1  # several workers race, and the winner is not always the same
    solver.parameters.relative_gap_limit = effort.gap
    if (branches := effort.most_nodes(_DEFAULT_BRANCHES)) is not None:
        solver.parameters.max_deterministic_time = branches * _TIME_PER_BRANCH
    if (left_s := deadline.left_s()) is not None:
        solver.parameters.max_time_in_seconds = left_s
    watching = None if effort.progress is None else _Watching(scaled, grid, effort.progress)
    # It would take the signal away from whoever handles it.
    solver.parameters.catch_sigint_signal = False
    with _stopping(solver):
        status = solver.solve(model, watching)
    work = {"cpsat_branches": int(solver.num_branches)}
    if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
        return Answer(None, status == cp_model.INFEASIBLE, work)
    choice = scaled.choice(np.array([solver.value(variable) for variable in taken], dtype=float))
    kept = choice is not None and problem.feasible(choice)
    return Answer(choice if kept else None, status == cp_model.OPTIMAL, work)


@contextmanager
def _stopping(solver: cp_model.CpSolver) -> Iterator[None]:
    stopped = stop_asked()
    if stopped is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY_S):
            if stopped():
                solver.stop_search()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


class _Watching(cp_model.CpSolverSolutionCallback):  # type: ignore[misc]  # ortools has no types
    def __init__(
        self, scaled: ScaledProblem, grid: float, progress: Callable[[float | None, float], None]
    ) -> None:
        super().__init__()
        self._report: Callable[[float], None] = lambda cost: progress(scaled.unscale(cost * grid), -np.inf)

    def on_solution_callback(self) -> None:
        self._report(self.objective_value)


def _grid(row: FloatArray, scaled: ScaledProblem) -> float:
    largest = np.zeros(scaled.units)
    np.maximum.at(largest, scaled.unit, np.abs(row))
    whole = np.array_equal(row, np.rint(row))
    return 1.0 if whole and largest.sum() < _LARGEST_SUM else float(largest.sum()) / _LARGEST_SUM
