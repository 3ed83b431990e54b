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
from allocator.solvers.exact.meet_in_the_middle import meet_in_the_middle
from allocator.solvers.exact.search import SHARE_OF_DUAL, prove, with_shared
from allocator.solvers.narrowing import Narrowed, better, cost_range, in_full, narrow, started
from allocator.solvers.outcome import Effort, Outcome, infeasible

#: Part of the time that the solver gets; the rest is for the proof.
_SHARE = 0.7
#: Part of the time for a plan to start from, and states in each half of the search for it.
_SHARE_FOR_START, _FIRST_STATES = 0.4, 20_000
#: Loading a solver takes about so long; with less time none is asked.
_LEAST_S = 0.3
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


def solve_whole(
    problem: Problem, effort: Effort, find: Callable[[Problem, Effort], Answer], seconds_per_binary: float
) -> Outcome:
    """Let a MIP solver look for a plan, and prove it.

    Args:
        effort: Gap and time limit.
        find: The solver.
        seconds_per_binary: What the solver needs before it looks at its clock; with less time it is not asked.

    Returns:
        Optimal or infeasible where we can prove it; feasible with the bound that we can prove otherwise.
    """
    deadline = Deadline(effort.time_limit_s)
    fitting = fitting_options(problem)
    if not fitting.any(axis=1).all():
        return infeasible()
    problem = replace(problem, available=fitting)
    dual = maximise_dual(problem, deadline=Deadline(deadline.part(SHARE_OF_DUAL)))
    if np.isposinf(dual.bound):
        return infeasible()
    plan = started(problem, dual, deadline)
    if plan is None:  # no time limit may cost a plan that is easily found
        asked = Effort(time_limit_s=deadline.part(_SHARE_FOR_START))
        plan = meet_in_the_middle(problem, dual, None, asked, _FIRST_STATES).choice
    known = narrow(Narrowed(problem, dual, plan), deadline)
    answer, known = _searched(known, effort, find, seconds_per_binary, deadline)
    asked = in_full(replace(effort, time_limit_s=deadline.left_s()), known)
    outcome = prove(known.problem, known.dual, known.plan, asked)
    outcome = replace(
        outcome,
        work={**outcome.work, **answer.work},
        prices=known.dual.multipliers if known.dual.complete else None,
    )
    return with_shared(known, problem, outcome)


def _searched(
    known: Narrowed,
    effort: Effort,
    find: Callable[[Problem, Effort], Answer],
    seconds_per_binary: float,
    deadline: Deadline,
) -> tuple[Answer, Narrowed]:
    answer = Answer(None, finished=False, work={"mip_runs": 0})
    for run in range(_ATTEMPTS):
        left_s, binaries = deadline.left_s(), np.count_nonzero(known.problem.available)
        if left_s is not None and left_s < _LEAST_S + seconds_per_binary * binaries:
            break
        asked = in_full(replace(effort, time_limit_s=deadline.part(_SHARE)), known)
        answer = find(known.problem, asked)
        answer = replace(answer, work={**answer.work, "mip_runs": run + 1})
        # Of equally cheap plans the solver's own is kept: it was asked.
        plan = better(known.problem, answer.choice, known.plan)
        before = cost_range(known.problem)
        known = narrow(replace(known, plan=plan), deadline)
        if deadline.passed() or before <= _WORTH_ANOTHER * cost_range(known.problem):
            break
    return answer, known
