r"""Options that no plan better than a known one can have, left out before anything is scaled.

At multipliers λ a plan costs at least :math:`L(\lambda)` plus the reduced costs of its options. So an option whose
reduced cost exceeds what the known plan costs above L is in no better plan. A score of 10¹⁰ that stands for "never" is
dropped in this way, and no longer sets the scale by which a solver compares the costs that matter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from allocator.bounds.dual import Dual, maximise_dual
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import BoolArray, IntArray, Problem, lagrangian_cost
from allocator.solvers.baselines.local_search import dearer_prices, improve, repair
from allocator.solvers.outcome import Effort, SumTolerance

#: The dual is maximised anew when the range of costs falls by this factor: it is as precise as its largest cost.
_BLOWN_UP = 16.0
#: The dual is near enough to its maximum where this part of the range of costs is small beside the gap.
_PRECISION = 1e-5
#: In larger problems too few single moves fit into a second.
_MOST_FOR_MOVES = 500_000
#: Costs are shifted where what all plans share is so much larger than what tells them apart.
_SHARED = 1e3


@dataclass(frozen=True, eq=False)
class Narrowed:
    """A problem over the options that can matter.

    Attributes:
        problem: The problem, with fewer options available, and costs without what all plans share.
        dual: Its maximised dual, whose bound holds for every plan that is better than the known one.
        plan: (U,) the best plan known, if there is one.
        shared: What every plan costs beyond its cost in the smaller problem.
    """

    problem: Problem
    dual: Dual
    plan: IntArray | None
    shared: float = 0.0


def rivalling_options(problem: Problem, dual: Dual, plan: IntArray) -> BoolArray:
    """Leave out options that are in no plan better than a known one.

    Args:
        dual: Multipliers and their bound.
        plan: (U,) a plan that keeps every limit.

    Returns:
        (U, F) the options that are in plans which cost no more than the known one.
    """
    lagrangian = lagrangian_cost(problem, dual.multipliers)  # (U, F)
    reduced = lagrangian - lagrangian.min(axis=1, keepdims=True)
    tolerance = SumTolerance.of(problem, plan, dual.multipliers)
    kept: BoolArray = reduced <= problem.objective(plan) - dual.bound + tolerance.reduced
    return problem.available & kept


def narrow(known: Narrowed, deadline: Deadline) -> Narrowed:
    """Leave out what a known plan rules out, and maximise the dual anew where that was most of the range of costs.

    Args:
        known: A problem, its maximised dual, and the plan.

    Returns:
        The smaller problem, its dual, and the best plan seen on the way.
    """
    while known.plan is not None and known.problem.limits:
        kept = rivalling_options(known.problem, known.dual, known.plan)
        if not kept.any(axis=1).all():  # no plan is better
            break
        before = cost_range(known.problem)
        smaller, shared = _without_shared(replace(known.problem, available=kept))
        precise = _PRECISION * before <= known.problem.objective(known.plan) - known.dual.bound
        if shared == 0.0 and (precise or before <= _BLOWN_UP * cost_range(smaller)):
            return replace(known, problem=smaller)
        dual = maximise_dual(smaller, deadline=deadline)
        if deadline.passed() or np.isposinf(dual.bound):  # to the tolerance of sums no plan is better
            break
        plan = known.plan if smaller.limits == 1 else started(smaller, dual, deadline)
        known = Narrowed(smaller, dual, better(smaller, known.plan, plan), known.shared + shared)
    return known


def in_full(effort: Effort, known: Narrowed) -> Effort:
    """Let what is told of a narrowed problem be about the whole one, with no bound below the one that is proved.

    Args:
        effort: For the whole problem.

    Returns:
        The same for the narrowed problem.
    """
    tell = effort.progress
    if tell is None:
        return effort

    def told(cost: float | None, bound: float) -> None:
        full = np.inf if cost is None else cost + known.shared
        proved = max(bound, known.dual.bound) + known.shared
        tell(None if cost is None else full, min(proved, full))

    return replace(effort, progress=told)


def drowned(problem: Problem, dual: Dual, plan: IntArray) -> bool:
    """Tell whether the tolerance of sums hides what tells plans apart.

    Args:
        plan: (U,) a plan that keeps every limit.

    Returns:
        True where the problem should be narrowed before it is searched.
    """
    tolerance = SumTolerance.of(problem, plan, dual.multipliers)
    return _SHARED * tolerance.reduced > problem.objective(plan) - dual.bound


def _without_shared(problem: Problem) -> tuple[Problem, float]:
    least = np.where(problem.available, problem.cost, np.inf).min(axis=1)  # (U,)
    if float(np.abs(least).max()) <= _SHARED * cost_range(problem):
        return problem, 0.0
    shared = float(least.sum())
    return (replace(problem, cost=problem.cost - least[:, None]), shared) if shared else (problem, 0.0)


def started(problem: Problem, dual: Dual, deadline: Deadline) -> IntArray | None:
    """Look for a plan near the minimiser of the Lagrangian.

    Returns:
        (U,) a plan that keeps every limit, if one was found.
    """
    lagrangian = lagrangian_cost(problem, dual.multipliers)  # (U, F)
    reduced = lagrangian - lagrangian.min(axis=1, keepdims=True)
    plan = dual.choice
    if problem.spend.size > _MOST_FOR_MOVES:
        plan = dearer_prices(problem, dual.multipliers, plan)
    plan = repair(problem, plan, reduced, deadline)
    if not problem.feasible(plan):
        plan = dearer_prices(problem, dual.multipliers, dual.choice)
    return improve(problem, plan, deadline) if problem.feasible(plan) else None


def better(problem: Problem, plan: IntArray | None, other: IntArray | None) -> IntArray | None:
    """Choose the cheaper of two plans.

    Args:
        plan: (U,) kept where both cost the same.
        other: (U,) another one.

    Returns:
        (U,) the cheaper one, if there is any.
    """
    if plan is None or other is None:
        return other if plan is None else plan
    return other if problem.objective(other) < problem.objective(plan) else plan


def cost_range(problem: Problem) -> float:
    """Return how far two options of one unit are apart in cost at most; 0 where no choice matters."""
    most = np.where(problem.available, problem.cost, -np.inf).max(axis=1)
    least = np.where(problem.available, problem.cost, np.inf).min(axis=1)
    return float((most - least).max())
