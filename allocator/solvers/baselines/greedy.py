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

#: After so many steps that did not fit under one limit it is worth looking for all that do not.
_MOST_FAILED = 100


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Start every unit at its lightest option, then buy the step with the best gain per unit spent that still fits.

    With several limits, what a step spends is the sum of its spends, each as a share of its limit's range. A plan that
    ends outside a limit is repaired, if single moves can.

    Args:
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
    taken = _buy_all_that_fit_in_order(problem, cost, thrift, choice)  # unit and the option it had
    used = problem.used(choice)
    banned = ~problem.available
    failed = _MOST_FAILED
    queue: list[tuple[float, int, int]] = []
    while not deadline.passed():
        if failed >= _MOST_FAILED:
            _ban(problem, banned, used, choice)
            queue, failed = _first_steps(np.where(banned, np.inf, cost), thrift, choice, problem.cost), 0
            heapify(queue)
        if not queue:
            break
        _, unit, option = heappop(queue)
        step = problem.spend[:, unit, option] - problem.spend[:, unit, choice[unit]]
        if (used + step <= problem.limit).all():
            taken.append((unit, int(choice[unit])))
            choice[unit] = option
            used += step
        else:
            banned[unit, option] = True
            failed += problem.limits == 1
        for better in _best_step(cost, thrift, banned, choice, unit):
            heappush(queue, better)
    while not problem.feasible(choice):  # the running sums were rounded otherwise than one sum over all
        unit, option = taken.pop()
        choice[unit] = option
    return len(taken)


def _ban(problem: Problem, banned: BoolArray, used: FloatArray, choice: IntArray) -> None:
    # Under one limit what does not fit now never will: steps that give back were taken first.
    if problem.limits == 1:
        step = problem.spend[0] - problem.spend[0, np.arange(problem.units), choice][:, None]  # (U, F)
        banned |= used + step > problem.limit


def _buy_all_that_fit_in_order(
    problem: Problem, cost: FloatArray, thrift: FloatArray, choice: IntArray
) -> list[tuple[int, int]]:
    # From one option the best step leads to one from which no step is better, so that the steps of all units can be
    # sorted once. Those before the first that does not fit are taken; one by one they take most of the time.
    at, rounds = choice.copy(), []
    while steps := _first_steps(cost, thrift, at, problem.cost):
        worth, unit, option = (np.array(column) for column in zip(*steps, strict=True))
        rounds.append((worth, unit, at[unit], option))
        at[unit] = option
    if not rounds:
        return []
    worth, unit, before, after = (np.concatenate(column) for column in zip(*rounds, strict=True))
    order = np.lexsort((unit, worth))  # stable, so that the steps of a unit stay in their order
    unit, before, after = unit[order], before[order], after[order]
    spent = problem.spend[:, unit, after] - problem.spend[:, unit, before]  # (R, S)
    used = np.cumsum(np.column_stack([problem.used(choice), spent]), axis=1)[:, 1:]
    over = (used > problem.limit[:, None]).any(axis=0)
    fit = int(over.argmax()) if over.any() else over.size
    choice[unit[:fit]] = after[:fit]  # of several steps of a unit the last one counts
    return list(zip(unit[:fit].tolist(), before[:fit].tolist(), strict=True))


def _first_steps(
    masked: FloatArray, thrift: FloatArray, choice: IntArray, cost: FloatArray
) -> list[tuple[float, int, int]]:
    # The best step of every unit at once.
    units = np.arange(choice.size)
    gain = cost[units, choice][:, None] - masked  # (U, F)
    price = np.where(np.isfinite(masked), thrift, 0.0) - thrift[units, choice][:, None]
    worth = _worth(gain, price, gain > 0)
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
