"""A plan searched for in this process: watched, ended by Ctrl-C or the time limit, with the reason in the answer."""

from __future__ import annotations

from functools import partial

from allocator import Allocation, Note, Profile, Request
from allocator.answer.solve import solve_compiled, solve_request
from allocator.contract.status import Status
from allocator.knapsack.compile import compile_problem
from allocator.knapsack.deadline import Deadline
from allocator.solvers import SOLVERS
from api.cli.interrupting import until_interrupted
from api.cli.watching import Watch

#: A plan that is there at once, where a solver that is not ours does not stop.
_QUICK_S = 1.0
#: Share of the time limit that a search has at least; the rest is for the answer.
_SEARCHED = 0.5
_UNPROVED = frozenset({Status.FEASIBLE, Status.NO_SOLUTION})


def search(profile: Profile, request: Request) -> tuple[Allocation, bool]:
    """Find the best plan, and say how far the search is.

    Returns:
        The answer, and whether Ctrl-C ended the search.
    """
    SOLVERS.find(request.solver)
    deadline = Deadline(request.time_limit_s)
    compiled = compile_problem(profile, request)  # here, for patterns are only timed in the main thread
    with Watch("solve") as watch:
        answer, interrupted = until_interrupted(
            partial(solve_compiled, compiled, request, watch.solving, deadline),
            partial(_at_once, profile, request, "did not stop"),
        )
        if interrupted and answer.status is Status.NO_SOLUTION:
            answer = _at_once(profile, request, "had no plan yet")
        seconds = watch.seconds()
    return with_reason(answer, request, seconds, interrupted=interrupted), interrupted


def _at_once(profile: Profile, request: Request, why: str) -> Allocation:
    text = f"{request.solver!r} {why}: this is what was found within {_QUICK_S:g} s in its place"
    answer = solve_request(profile, request.model_copy(update={"time_limit_s": _QUICK_S, "solver": "exact"}))
    return answer.model_copy(update={"notes": (*answer.notes, Note(about="time", text=text))})


def check_patterns(profile: Profile, request: Request) -> None:
    """Look patterns up before the search: only the main thread can end one that takes for ever.

    Args:
        profile: The profile.
        request: The request.
    """
    if request.pin or request.allow or request.forbid or request.limits:
        compile_problem(profile, request)


def with_reason(answer: Allocation, request: Request, seconds: float, *, interrupted: bool) -> Allocation:
    """Say in an answer that the search ended early, and why.

    Args:
        request: The request, with its time limit.
        seconds: What all of it took.
        interrupted: Whether Ctrl-C ended it.

    Returns:
        The answer; the same where it is proved, or nothing ended the search early.
    """
    if interrupted and answer.status in _UNPROVED:
        text = f"stopped by Ctrl-C after {seconds:.1f} s, unproved"
    elif ended_by_time(answer, seconds, request):
        text = f"stopped at the time limit of {request.time_limit_s:g} s, unproved; --time-limit sets another"
    else:
        return answer
    return answer.model_copy(update={"notes": (*answer.notes, Note(about="time", text=text))})


def ended_by_time(answer: Allocation, seconds: float, request: Request) -> bool:
    """Whether the time limit ended a search, and not its solver or the gap that is good enough.

    Args:
        answer: The answer.
        seconds: What it took.
        request: The request.

    Returns:
        True where nothing is proved and the time was used.
    """
    limit_s = request.time_limit_s
    return answer.status in _UNPROVED and limit_s is not None and seconds >= _SEARCHED * limit_s
