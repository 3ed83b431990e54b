"""Best marginal gain per unit spent: the rule most tools use, and the baseline every report shows."""

from __future__ import annotations

from dataclasses import replace
from heapq import heapify, heappop, heappush

import numpy as np

from allocator.bounds.dual import maximise_dual
from allocator.contract.status import Status
from allocator.knapsack.bands import Bands
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import (
    BoolArray,
    FloatArray,
    IntArray,
    Problem,
    masked_cost,
    weighted,
    with_limits,
)
from allocator.solvers.baselines.local_search import repair
from allocator.solvers.outcome import Effort, Outcome, found, infeasible


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Start every unit at its thriftiest option, then buy the step with the best gain per unit spent that still fits.

    With several limits, what a step spends is the sum of its spends, each as a share of its limit's range. A plan that
    ends outside a limit is repaired, if single moves can.

    Args:
        problem: The problem.
        effort: When time is up, the steps bought so far are the plan.

    Returns:
        A plan with the Lagrangian bound, so that its distance to the optimum is known.
    """
    deadline = Deadline(effort.time_limit_s)
    dual = maximise_dual(problem, deadline=deadline)
    prices = dual.multipliers if dual.complete else None
    if np.isposinf(dual.bound):
        return infeasible({"dual_evaluations": dual.evaluations})
    # What is bought leads away from the low side of a band, which therefore counts at the end.
    bands = Bands.of(problem)
    bought = with_limits(problem, np.sort(bands.upper))
    thrift = _thrift(bought)  # (U, F)
    ties = thrift <= thrift.min(axis=1, keepdims=True)
    choice = np.where(ties, masked_cost(bought), np.inf).argmin(axis=1)
    steps = _buy(bought, thrift, choice, deadline) if bought.feasible(choice) else 0
    if not problem.feasible(choice):
        cost = masked_cost(problem)
        choice = repair(problem, choice, cost - cost.min(axis=1, keepdims=True), deadline)
    if not problem.feasible(choice):
        return Outcome(Status.NO_SOLUTION, None, dual.bound, prices=prices)
    return replace(found(problem, choice, dual.bound, {"steps": steps}), prices=prices)


def _thrift(problem: Problem) -> FloatArray:
    low = np.where(problem.available, problem.spend, np.inf).min(axis=2)  # (R, U)
    high = np.where(problem.available, problem.spend, -np.inf).max(axis=2)
    span = (high - low).sum(axis=1)  # (R,)
    total = weighted(problem.spend, 1 / np.where(span > 0, span, 1.0))  # (U, F)
    return np.where(problem.available, total, np.inf)


def _buy(problem: Problem, thrift: FloatArray, choice: IntArray, deadline: Deadline) -> int:
    cost = masked_cost(problem)
    used = problem.used(choice)
    banned = ~problem.available
    queue = _first_steps(cost, thrift, choice)
    heapify(queue)
    taken: list[tuple[int, int]] = []  # unit and the option it had
    while queue and not deadline.passed():
        _, unit, option = heappop(queue)
        step = problem.spend[:, unit, option] - problem.spend[:, unit, choice[unit]]
        if (used + step <= problem.limit).all():
            taken.append((unit, int(choice[unit])))
            choice[unit] = option
            used += step
        else:
            banned[unit, option] = True
        for better in _best_step(cost, thrift, banned, choice, unit):
            heappush(queue, better)
    while not problem.feasible(choice):  # the running sums were rounded otherwise than one sum over all
        unit, option = taken.pop()
        choice[unit] = option
    return len(taken)


def _first_steps(cost: FloatArray, thrift: FloatArray, choice: IntArray) -> list[tuple[float, int, int]]:
    # The best step of every unit at once: one by one they take most of the time.
    units = np.arange(choice.size)
    gain = cost[units, choice][:, None] - cost  # (U, F)
    worth = _worth(gain, thrift - thrift[units, choice][:, None], gain > 0)
    option = worth.argmax(axis=1)
    best = worth[units, option]
    some = (best > 0).nonzero()[0]
    return list(zip((-best[some]).tolist(), some.tolist(), option[some].tolist(), strict=True))


def _worth(gain: FloatArray, price: FloatArray, wanted: BoolArray) -> FloatArray:
    worth = np.where(wanted, np.inf, 0.0)  # what costs nothing comes first
    np.divide(gain, price, out=worth, where=wanted & (price > 0))
    return worth


def _best_step(
    cost: FloatArray, thrift: FloatArray, banned: BoolArray, choice: IntArray, unit: int
) -> list[tuple[float, int, int]]:
    gain = cost[unit, choice[unit]] - cost[unit]  # (F,)
    price = thrift[unit] - thrift[unit, choice[unit]]
    worth = _worth(gain, price, ~banned[unit] & (gain > 0))
    option = int(worth.argmax())
    return [(-float(worth[option]), unit, option)] if worth[option] > 0 else []
