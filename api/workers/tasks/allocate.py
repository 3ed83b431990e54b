"""Plan: everything between the body of a request and the bytes of the answer."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from allocator import Allocation, Fault, InvalidInputError, Profile, solve_request
from allocator import Request as PlanRequest
from allocator.answer.solve import SolveProgress
from allocator.solvers import Deadline
from api.ids import numbered
from api.operations.body import in_body
from api.workers.cache import TaskContext
from api.workers.json_body import parsed
from api.workers.tasks import Answer
from bitalloc.wire import AllocationRequest, ProfileRequest, StoredAllocation

_LEVEL = 1
Tell = Callable[[SolveProgress], None]
Solve = Callable[[PlanRequest, Tell], Allocation]


def run(context: TaskContext) -> Answer:
    """Parse, solve and write.

    Args:
        context: Its body is an :class:`~bitalloc.wire.AllocationRequest`; the options are ``id``, that of the first
            answer, and ``max_time_limit_s``.

    Returns:
        What the service stores about each answer; the answer to send, then the request and each answer, gzipped.
    """
    asked = parsed(AllocationRequest, context.body, context.limits)
    profile = wanted_profile(context, asked)
    request = limited(asked, context.options["max_time_limit_s"])
    budgets = [{}] if asked.batch is None else list(asked.batch)
    ids = numbered(context.options["id"], len(budgets))
    rows: list[dict[str, Any]] = []
    answers: list[bytes] = []
    deadline = Deadline(context.options["max_time_limit_s"])
    solve = _solver(context, profile)
    for at, more in enumerate(budgets):
        limit_s = min(request.time_limit_s or math.inf, deadline.left_s() or math.inf)
        fields = {"budgets": dict(request.budgets) | more, "time_limit_s": limit_s}

        def tell(progress: SolveProgress, at: int = at) -> None:
            context.tell(vars(progress) | {"plan": at, "plans": len(budgets)})

        plan = _planned(solve, request.model_copy(update=fields), at, asked, tell)
        stored = StoredAllocation.model_construct(**dict(plan), id=ids[at])
        answers.append(stored.model_dump_json().encode())
        rows.append(_facts(stored, len(profile.layers)))
    body = answers[0] if asked.batch is None else b'{"allocations":[' + b",".join(answers) + b"]}"
    kept = asked.model_dump_json(exclude={"profile"}, exclude_unset=True).encode()
    parts = [body, *(gzip.compress(part, _LEVEL, mtime=0) for part in (kept, *answers))]
    return {"rows": rows}, parts


def _solver(context: TaskContext, profile: Profile) -> Solve:
    # A profile that came before may come again and again: what its requests share is then done once.
    sha256 = profile.digest()
    if context.profiles.find(sha256) is not None:
        return partial(context.profiles.solve, sha256)
    context.profiles.keep(sha256, profile)
    return partial(solve_request, profile)


def wanted_profile(context: TaskContext, asked: ProfileRequest) -> Profile:
    """Return the profile that a request is about, inline or stored."""
    if asked.profile is not None:
        return asked.profile
    assert asked.profile_id is not None
    return context.profile(asked.profile_id)


def limited(asked: PlanRequest, max_time_limit_s: float) -> PlanRequest:
    """Take the plan request out of what was asked, within the service's time limit.

    Args:
        max_time_limit_s: The longest time limit, and the one where none was asked for.

    Returns:
        The plan request.
    """
    fields = {name: getattr(asked, name) for name in asked.model_fields_set & PlanRequest.model_fields.keys()}
    limit_s = min(asked.time_limit_s or max_time_limit_s, max_time_limit_s)
    return PlanRequest.model_construct(**fields | {"time_limit_s": limit_s})


def _planned(
    solve: Solve,
    request: PlanRequest,
    at: int,
    asked: AllocationRequest,
    tell: Tell,
) -> Allocation:
    try:
        return solve(request, tell)
    except InvalidInputError as error:
        faults = list(map(in_body, error.faults))
        if asked.batch is not None:
            faults = [_in_batch(fault, at, asked) for fault in faults]
        raise InvalidInputError(*faults) from error


def _in_batch(fault: Fault, at: int, asked: AllocationRequest) -> Fault:
    head, _, name = fault.pointer.removeprefix("/").partition("/")
    inside = head == "budgets" and asked.batch is not None and name in asked.batch[at]
    return Fault(f"/batch/{at}/{name}", fault.detail) if inside else fault


def _facts(stored: StoredAllocation, layers: int) -> dict[str, Any]:
    return {
        "id": stored.id,
        "profile_sha256": stored.profile_sha256,
        "status": str(stored.status),
        "version": stored.version,
        "solver": stored.solver.name,
        "seconds": stored.solver.seconds,
        "gap": stored.gap,
        "layers": layers,
    }
