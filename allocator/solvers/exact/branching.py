r"""Branch and bound whose every bound is our own: what proves a plan where one list of states would be too long.

A node is the problem with fewer options. Its Lagrangian dual is maximised anew, options whose reduced cost exceeds what
the incumbent leaves are dropped, and what remains is searched whole by
:mod:`allocator.solvers.exact.meet_in_the_middle` where two short lists hold it. Where they do not, the options of one
unit are split by what they spend, and both parts are nodes. The open node with the least bound comes first, and its
bound is that of the whole problem.

Nothing here trusts a MIP solver: a plan from one is only an incumbent.

Source: A. H. Land and A. G. Doig, "An automatic method of solving discrete programming problems", Econometrica 28(3),
1960, here with Lagrangian bounds and enumerated leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

import numpy as np

from allocator.bounds.dual import Dual, maximise_dual
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import BoolArray, IntArray, Problem, lagrangian_cost, weighted
from allocator.knapsack.reductions import Reduction, fix_single_options
from allocator.solvers.exact.core import Expansion
from allocator.solvers.exact.meet_in_the_middle import meet_in_the_middle
from allocator.solvers.narrowing import better, rivalling_options
from allocator.solvers.outcome import Effort

#: States in each half of a leaf; listing so few takes about as long as maximising a dual.
_LEAF_STATES = 2_000
#: Without any other limit, what nodes may cost together: the numbers of a problem, and the handling of each node. About
#: twenty seconds.
_DEFAULT_WORK, _HANDLING = 1.5e7, 30_000
#: Rounding of a sum of doubles, relative to its terms.
_ROUNDING = 1e-14
#: Options are mixed by the relaxation where their reduced cost is below this part of the gap.
_MIXED = 0.02


def branch_and_bound(problem: Problem, dual: Dual, start: IntArray | None, effort: Effort) -> Expansion:
    """Search the plans that can beat the incumbent, part by part, until none is left.

    Units that have one option left by the incumbent are taken out of the problem before.

    Args:
        problem: A problem with at least one limit.
        start: (U,) a plan that keeps the limits, if one is known.
        effort: Gap, time and node limit; without any of them a default amount of work.

    Returns:
        The incumbent and what is proved of it: optimal where the bound reaches its objective, no plan where it is +inf.
    """
    deadline = Deadline(effort.time_limit_s)
    if start is None:
        return _searched(problem, dual, None, effort, deadline)
    kept = rivalling_options(problem, dual, start)
    smaller, fixed = _undecided(problem, kept), problem.objective(start)
    own = start[kept.sum(axis=1) > 1]
    if own.size == 0 or own.size == problem.units:
        return _searched(problem, dual, start, effort, deadline)
    fixed -= smaller.problem.objective(own)
    found = _searched(
        smaller.problem, maximise_dual(smaller.problem, deadline=deadline), own, effort, deadline
    )
    assert found.choice is not None
    choice = smaller.undo(found.choice)
    if not problem.feasible(choice):  # by rounding, and what it ruled out may be better
        return _searched(problem, dual, start, replace(effort, time_limit_s=deadline.left_s()), deadline)
    terms = float(np.abs(problem.cost[np.arange(problem.units), choice]).sum())
    bound = max(dual.bound, found.bound + fixed - _ROUNDING * terms)
    if found.bound >= smaller.problem.objective(found.choice):
        bound = problem.objective(choice)
    return replace(found, choice=choice, bound=min(bound, problem.objective(choice)))


def _undecided(problem: Problem, kept: BoolArray) -> Reduction:
    # Limits that are not integers are widened by the rounding of their sums, so that no plan is lost.
    smaller = fix_single_options(problem, kept)
    largest = np.where(problem.available, np.abs(problem.spend), 0.0).max(axis=2).sum(axis=1)  # (R,)
    spare = np.where(problem.whole_spend, 0.0, _ROUNDING * (largest + np.abs(problem.limit)))
    return replace(smaller, problem=replace(smaller.problem, limit=smaller.problem.limit + spare))


def _searched(
    problem: Problem, dual: Dual, start: IntArray | None, effort: Effort, deadline: Deadline
) -> Expansion:
    search = _Search(problem, start)
    search.push(problem, dual)
    most_nodes = effort.most_nodes(_DEFAULT_WORK / (problem.spend.size + _HANDLING))
    while search.open and not deadline.passed() and search.nodes != most_nodes:
        if search.choice is not None and search.objective - search.bound <= effort.gap * abs(
            search.objective
        ):
            break
        before = search.choice
        search.visit(deadline)
        if search.choice is not before:
            effort.tell(problem, search.choice, search.bound)
    return Expansion(search.choice, search.bound, canonical=False, work={"branches": search.nodes})


@dataclass(eq=False)
class _Search:
    """The open nodes, least bound first, and the incumbent."""

    whole: Problem
    choice: IntArray | None
    open: list[tuple[float, int, Problem, Dual]] = field(default_factory=list)
    nodes: int = 0
    _pushed: int = 0

    @property
    def objective(self) -> float:
        return np.inf if self.choice is None else self.whole.objective(self.choice)

    @property
    def bound(self) -> float:
        # What was closed held no plan cheaper than the incumbent.
        return min(self.open[0][0], self.objective) if self.open else self.objective

    def push(self, problem: Problem, dual: Dual) -> None:
        if dual.bound < self.objective:
            heappush(self.open, (dual.bound, self._pushed, problem, dual))
            self._pushed += 1

    def visit(self, deadline: Deadline) -> None:
        bound, _, problem, dual = self.open[0]
        parts = () if bound >= self.objective else self._parts(problem, dual, deadline)
        if parts is None:  # time is up, and the node stays open
            return
        heappop(self.open)
        self.nodes += 1
        for part in parts:
            self.push(part, _at_least(maximise_dual(part, deadline=deadline), bound))

    def _parts(self, problem: Problem, dual: Dual, deadline: Deadline) -> tuple[Problem, ...] | None:
        if self.choice is not None:
            problem = replace(problem, available=rivalling_options(problem, dual, self.choice))
            if not problem.available.any(axis=1).all():
                return ()
        effort = Effort(time_limit_s=deadline.left_s())
        found = meet_in_the_middle(problem, dual, self.choice, effort, _LEAF_STATES)
        self.choice = better(self.whole, self.choice, found.choice)
        if found.bound >= self.objective:
            return ()
        return None if deadline.passed() else _split(problem, dual, self.objective)


def _split(problem: Problem, dual: Dual, objective: float) -> tuple[Problem, ...]:
    # The relaxation mixes options that cost the same at the prices of the limits. Of those, the pair whose spends are
    # furthest apart is separated: options on the base's side of the cost between the two, and the others.
    rows = np.arange(problem.units)
    lagrangian = lagrangian_cost(problem, dual.multipliers)  # (U, F)
    base = lagrangian.argmin(axis=1)
    reduced = lagrangian - lagrangian[rows, base][:, None]
    reduced[rows, base] = np.inf
    near_bound = _MIXED * (objective - dual.bound) if np.isfinite(objective) else 0.0
    mixed = np.isfinite(reduced) & (reduced <= max(near_bound, float(reduced.min())))
    steps = np.abs(problem.spend - problem.spend[:, rows, base][:, :, None])  # (R, U, F)
    apart = np.where(mixed, weighted(steps, dual.multipliers), -1.0)
    unit, option = np.unravel_index(int(apart.argmax()), apart.shape)
    here, there = problem.cost[unit, base[unit]], problem.cost[unit, option]
    near = problem.cost[unit] <= here if here < there else problem.cost[unit] >= here
    near[option] = False
    near[base[unit]] = True
    return tuple(_with_options(problem, int(unit), side) for side in (near, ~near))


def _with_options(problem: Problem, unit: int, options: BoolArray) -> Problem:
    available = problem.available.copy()
    available[unit] &= options
    return replace(problem, available=available)


def _at_least(dual: Dual, bound: float) -> Dual:
    # What holds for all plans holds for some of them.
    return dual if dual.bound >= bound else replace(dual, bound=bound)
