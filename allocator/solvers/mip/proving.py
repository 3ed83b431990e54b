"""What all solvers of whole models share: a small, well scaled model before, and a proof of our own behind.

A MIP solver compares with absolute tolerances, so that one cost of 10¹⁰ hides all others. What costs more than a known
plan is therefore left out before the model is written, and again when the solver found a plan that rules out most of
the range of costs. The solver's status and bound are not taken over: its plan is proved by
:func:`allocator.solvers.exact.search.prove`, or given with the bound that was proved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from allocator.bounds.dual import maximise_dual
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import IntArray, Problem
from allocator.knapsack.reductions import fitting_options
from allocator.solvers.exact.search import prove, with_shared
from allocator.solvers.narrowing import Narrowed, better, cost_range, in_full, narrow, started
from allocator.solvers.outcome import Effort, Outcome, infeasible

#: Part of the time that the solver gets; the rest is for the proof.
_SHARE = 0.7
#: A model is solved again where its range of costs fell by this factor.
_WORTH_ANOTHER = 16.0
_ATTEMPTS = 3


@dataclass(frozen=True, eq=False)
class Answer:
    """What a MIP solver says.

    Attributes:
        choice: (U,) its plan, which keeps every limit; None where it has none.
        finished: Whether it stopped because it believes to be done.
        work: Counts of what was done.
    """

    choice: IntArray | None
    finished: bool
    work: Mapping[str, int] = field(default_factory=dict)


def solve_whole(problem: Problem, effort: Effort, find: Callable[[Problem, Effort], Answer]) -> Outcome:
    """Let a MIP solver look for a plan, and prove it.

    Returns:
        Optimal or infeasible where we can prove it; feasible with the bound that we can prove otherwise.
    """
    deadline = Deadline(effort.time_limit_s)
    fitting = fitting_options(problem)
    if not fitting.any(axis=1).all():
        return infeasible()
    problem = replace(problem, available=fitting)
    dual = maximise_dual(problem, deadline=deadline)
    if np.isposinf(dual.bound):
        return infeasible()
    known = narrow(Narrowed(problem, dual, started(problem, dual, deadline)), deadline)
    answer, known = _searched(known, effort, find, deadline)
    asked = in_full(replace(effort, time_limit_s=deadline.left_s()), known)
    outcome = prove(known.problem, known.dual, known.plan, asked)
    outcome = replace(outcome, work={**outcome.work, **answer.work}, prices=known.dual.multipliers)
    return with_shared(known, problem, outcome)


def _searched(
    known: Narrowed, effort: Effort, find: Callable[[Problem, Effort], Answer], deadline: Deadline
) -> tuple[Answer, Narrowed]:
    for _ in range(_ATTEMPTS):
        left_s = deadline.left_s()
        asked = in_full(replace(effort, time_limit_s=None if left_s is None else _SHARE * left_s), known)
        answer = find(known.problem, asked)
        # Of equally cheap plans the solver's own is kept: it was asked.
        plan = better(known.problem, answer.choice, known.plan)
        before = cost_range(known.problem)
        known = narrow(replace(known, plan=plan), deadline)
        if deadline.passed() or before <= _WORTH_ANOTHER * cost_range(known.problem):
            break
    return answer, known
