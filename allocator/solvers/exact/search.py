"""The proved optimum: the dual, a start, and lists of all plans within reach; branch and bound where they are too many.

A MIP on the core may find a better plan in between; what it says of the plan proves nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from allocator.bounds.dual import Dual, maximise_dual
from allocator.bounds.hull import Hull, build_hull
from allocator.contract.status import Status
from allocator.knapsack.components import connected_components
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import (
    FloatArray,
    IntArray,
    Problem,
    masked_cost,
    thrift_signs,
)
from allocator.knapsack.reductions import Spread, fitting_options
from allocator.solvers.exact.branching import branch_and_bound
from allocator.solvers.exact.core import Expansion
from allocator.solvers.exact.core_mip import solve_core
from allocator.solvers.exact.expanding_core import expand_core
from allocator.solvers.exact.idle_limits import idle_sides, without_idle
from allocator.solvers.exact.meet_in_the_middle import meet_in_the_middle
from allocator.solvers.exact.parts import PEAKS, solve_in_parts
from allocator.solvers.exact.strategy import (
    DEFAULT,
    PROOF,
    Branches,
    MeetInTheMiddle,
    Nodes,
    States,
    Step,
    Strategy,
    WholeCosts,
    WithoutIdleSides,
)
from allocator.solvers.exact.ties import canonical_plan
from allocator.solvers.narrowing import Narrowed, drowned, in_full, narrow, started
from allocator.solvers.outcome import PROOF_TOLERANCE, Effort, Outcome, found, infeasible, relative_gap

#: Loading a MIP solver takes about so long; with less time left none is started.
_LEAST_FOR_NODES_S = 0.6
#: Part of the default amount of work that a search without some of the limits gets.
_SHARE_OF_RELAXED = 0.25
#: Part of the time that the dual may take, so that there is some for a plan.
SHARE_OF_DUAL = 0.4
#: Rounding of a sum of doubles, relative to the sum.
_SHARED_ROUNDING = 1e-14


@dataclass(frozen=True, eq=False)
class Prepared:
    """What depends on the tables but not on the limits.

    Attributes:
        problem: The problem; its limits are only defaults.
        hull: The merged hull, for one limit.
        spread: What tells that a limit leaves all options.
    """

    problem: Problem
    hull: Hull | None
    spread: Spread | None


def prepare(problem: Problem) -> Prepared:
    """Do once what every solve with other limits would repeat.

    Returns:
        State for :func:`solve_prepared`.
    """
    return Prepared(problem, build_hull(problem) if problem.limits == 1 else None, Spread.of(problem))


def solve(problem: Problem, effort: Effort, strategy: Strategy = DEFAULT) -> Outcome:
    """Find the cheapest plan and prove it.

    Args:
        effort: Gap and time limit.
        strategy: The steps to take.

    Returns:
        Optimal or infeasible; feasible with its bound when time or the requested gap ended the search.
    """
    return solve_prepared(Prepared(problem, None, None), problem.limit, effort, strategy)


def solve_prepared(
    prepared: Prepared, limit: FloatArray, effort: Effort, strategy: Strategy = DEFAULT
) -> Outcome:
    """Find the cheapest plan within given limits and prove it.

    Args:
        prepared: From :func:`prepare`.
        limit: (R,) limits.
        effort: Gap and time limit.
        strategy: The steps to take.

    Returns:
        Optimal or infeasible; feasible with its bound when time or the requested gap ended the search.
    """
    problem = replace(prepared.problem, limit=limit)
    deadline = Deadline(effort.time_limit_s)
    whole = prepared.spread is not None and prepared.spread.fits(limit)
    if not whole:
        fitting = fitting_options(problem)
        if not fitting.any(axis=1).all():
            return infeasible({"dual_evaluations": 0})
        whole = np.array_equal(fitting, problem.available)
        problem = replace(problem, available=fitting)
    if problem.limits == 1:
        return _solve_connected(problem, prepared.hull if whole else None, effort, deadline, strategy)
    return _solve_fitting(problem, effort, deadline, strategy)


def _solve_fitting(problem: Problem, effort: Effort, deadline: Deadline, strategy: Strategy) -> Outcome:
    parts = connected_components(problem)
    costs = np.abs(problem.cost[problem.available])
    # Where one part has costs that drown those of others, only the whole is proved to the last digit.
    drowning = costs.size and float(costs.max()) * PROOF_TOLERANCE > float(
        costs[costs > 0].min(initial=np.inf)
    )
    if drowning:
        return _solve_connected(problem, None, effort, deadline, strategy)
    if len(parts) > 1 or parts[0].problem is not problem:

        def run(part: Problem, asked: Effort) -> Outcome:
            return _solve_connected(part, None, asked, Deadline(asked.time_limit_s), strategy)

        outcome = solve_in_parts(problem, parts, run, effort, deadline)
        if outcome is not None:
            return outcome
    return _solve_connected(problem, None, effort, deadline, strategy)


def _solve_connected(
    problem: Problem, hull: Hull | None, effort: Effort, deadline: Deadline, strategy: Strategy
) -> Outcome:
    dual = maximise_dual(problem, hull, Deadline(deadline.part(SHARE_OF_DUAL)))
    outcome = _solve(problem, dual, effort, deadline, strategy)
    return replace(outcome, prices=dual.multipliers if dual.complete else None)


def _solve(problem: Problem, dual: Dual, effort: Effort, deadline: Deadline, strategy: Strategy) -> Outcome:
    work = {"dual_evaluations": dual.evaluations}
    if np.isposinf(dual.bound):
        return infeasible(work)
    if not dual.multipliers.any():
        free = _lightest_of_the_cheapest(problem)
        if problem.feasible(free):
            return found(problem, free, dual.bound, work, canonical=True)
    plan = started(problem, dual, deadline) if problem.limits > 1 else dual.choice
    known = Narrowed(problem, dual, plan)
    if problem.limits > 1 or drowned(problem, dual, dual.choice):
        known = narrow(known, deadline)
    start = Outcome(Status.NO_SOLUTION, known.plan, known.dual.bound, work)
    outcome = _settle(known.problem, known.dual, start, strategy, in_full(effort, known), deadline)
    return with_shared(known, problem, outcome)


def with_shared(known: Narrowed, problem: Problem, outcome: Outcome) -> Outcome:
    """Turn an outcome of a narrowed problem into one of the problem.

    Args:
        known: The narrowed problem.
        problem: What it was made of.
        outcome: Of the narrowed problem.

    Returns:
        The same plan, with a bound on the problem's own costs.
    """
    if known.shared == 0.0 or not np.isfinite(outcome.bound):
        return outcome
    bound = outcome.bound + known.shared - _SHARED_ROUNDING * abs(known.shared)
    if outcome.choice is not None:
        objective = problem.objective(outcome.choice)
        bound = objective if outcome.status is Status.OPTIMAL else min(bound, objective)
    return replace(outcome, bound=bound)


def prove(problem: Problem, dual: Dual, plan: IntArray | None, effort: Effort) -> Outcome:
    """Say what is known of a plan without its solver's word, and look for a better one until it is proved.

    Args:
        dual: Its maximised dual.
        plan: (U,) a plan that keeps every limit; None where a solver found none.
        effort: Gap and time limit.

    Returns:
        Optimal or infeasible where that is proved here; else feasible with the bound that is.
    """
    if plan is not None and (problem.limits == 0 or dual.bound >= problem.objective(plan)):
        return found(problem, plan, dual.bound)
    if np.isposinf(dual.bound):
        return infeasible()
    start = Outcome(Status.NO_SOLUTION, plan, dual.bound)
    if plan is not None:
        start = found(problem, plan, dual.bound)
    return _settle(problem, dual, start, PROOF, effort, Deadline(effort.time_limit_s))


def _settle(
    problem: Problem, dual: Dual, outcome: Outcome, strategy: Strategy, effort: Effort, deadline: Deadline
) -> Outcome:
    work = outcome.work
    for step in strategy.steps(problem.limits):
        effort.tell(problem, outcome.choice, outcome.bound)
        if _settled(problem, outcome, effort.gap) or deadline.passed():
            break
        asked = replace(effort, time_limit_s=deadline.left_s())
        outcome = _stepped(problem, dual, outcome, step, asked, strategy)
    if outcome.work is work and outcome.choice is not None:  # no time for any of them
        outcome = found(problem, outcome.choice, outcome.bound, work)
    return _break_ties(problem, dual, _rounded_up(problem, outcome), deadline)


def _stepped(
    problem: Problem, dual: Dual, outcome: Outcome, step: Step, effort: Effort, strategy: Strategy
) -> Outcome:
    plan = outcome.choice
    if isinstance(step, MeetInTheMiddle):
        return _extended(problem, outcome, meet_in_the_middle(problem, dual, plan, effort, step.most_states))
    if isinstance(step, States):
        return _extended(problem, outcome, expand_core(problem, dual, plan, effort, step.most_states))
    if isinstance(step, Nodes):
        if effort.time_limit_s is not None and effort.time_limit_s < _LEAST_FOR_NODES_S:
            return outcome
        return _extended(problem, outcome, solve_core(problem, dual, plan, effort, step.most_nodes))
    if isinstance(step, Branches):
        return _extended(problem, outcome, branch_and_bound(problem, dual, plan, effort))
    if isinstance(step, WholeCosts):
        return _rounded_up(problem, outcome)
    sides = isinstance(step, WithoutIdleSides)
    idle = idle_sides(problem, dual) if sides else dual.multipliers == 0
    deadline, rest = Deadline(effort.time_limit_s), strategy.after(step)

    def run(relaxed: Problem) -> Outcome:
        asked = replace(
            effort, time_limit_s=deadline.left_s(), progress=None, share=_SHARE_OF_RELAXED * effort.share
        )
        return solve(relaxed, asked, rest)

    return without_idle(problem, outcome, idle, run, canonical=sides)


def _extended(problem: Problem, before: Outcome, found_more: Expansion) -> Outcome:
    work = {name: before.work.get(name, 0) + count for name, count in found_more.work.items()}
    for peak in PEAKS:
        if peak in work:
            work[peak] = max(before.work.get(peak, 0), found_more.work[peak])
    work = {**before.work, **work}
    bound = max(before.bound, found_more.bound)
    if found_more.choice is not None:
        return found(problem, found_more.choice, bound, work, canonical=found_more.canonical)
    return infeasible(work) if np.isposinf(bound) else Outcome(Status.NO_SOLUTION, None, bound, work)


def _rounded_up(problem: Problem, outcome: Outcome) -> Outcome:
    # Sums of integers are integers; the margin covers the rounding of the bound.
    if outcome.status is not Status.FEASIBLE or outcome.choice is None or not problem.whole_cost:
        return outcome
    terms = np.abs(problem.cost[np.arange(problem.units), outcome.choice]).sum()
    margin = 1e-9 * max(1.0, min(float(terms), 1e3)) + 1e-12 * float(terms)
    bound = max(outcome.bound, float(np.ceil(outcome.bound - margin)))
    rounded = found(problem, outcome.choice, bound, outcome.work, canonical=outcome.canonical)
    return replace(rounded, prices=outcome.prices)


def _gap(problem: Problem, outcome: Outcome) -> float:
    return (
        np.inf if outcome.choice is None else relative_gap(problem.objective(outcome.choice), outcome.bound)
    )


def _settled(problem: Problem, outcome: Outcome, gap: float) -> bool:
    if outcome.status in {Status.OPTIMAL, Status.INFEASIBLE}:
        return True
    return outcome.status is Status.FEASIBLE and _gap(problem, outcome) <= gap


def _break_ties(problem: Problem, dual: Dual, outcome: Outcome, deadline: Deadline) -> Outcome:
    if outcome.status is not Status.OPTIMAL or outcome.choice is None:
        return outcome
    if outcome.canonical or problem.limits > 1:
        return outcome
    plan = canonical_plan(problem, dual, outcome.choice, deadline)
    return outcome if plan is None else replace(outcome, choice=plan, canonical=True)


def _lightest_of_the_cheapest(problem: Problem) -> IntArray:
    kept = problem.available & (masked_cost(problem) <= masked_cost(problem).min(axis=1, keepdims=True))
    for spend in problem.spend * thrift_signs(problem)[:, None, None]:
        least = np.where(kept, spend, np.inf)
        kept = least <= least.min(axis=1, keepdims=True)
    first: IntArray = kept.argmax(axis=1)
    return first
