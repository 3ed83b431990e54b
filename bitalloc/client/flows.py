"""What a client asks and in which order, without any input or output: both clients drive the same flows.

A flow is a generator. It yields a :class:`Call` and is sent the answer, or a :class:`Pause` and is sent None.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

import httpx2

from allocator import load_profile, make_request
from allocator.contract.profile import ProfileSource
from allocator.contract.request import Amount, RequestFields
from bitalloc.client.errors import ServiceError, lacks, raise_problem, refuse, understood
from bitalloc.operations import FrontierAnswer
from bitalloc.wire import AllocationBatch, AllocationRequest, JobDetails, ProfileEntry, StoredAllocation

_ALLOCATIONS = "/v1/allocations"
_JSON = {"content-type": "application/json"}
#: Between two looks at a job.
_LOOK_S = 0.5


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        method: HTTP method.
        path: Path of the URL.
        content: Body.
        headers: Headers.
    """

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pause:
    """Some time without a request.

    Attributes:
        seconds: How much.
    """

    seconds: float


T = TypeVar("T")
Flow: TypeAlias = Generator[Call | Pause, Any, T]


def upload(profile: ProfileSource) -> Flow[ProfileEntry]:
    """Store a profile.

    Yields:
        Calls.

    Returns:
        What is stored.
    """
    content = load_profile(profile).model_dump_json().encode()
    response = yield Call("POST", "/v1/profiles", content, _JSON)
    return understood(response, ProfileEntry)


def allocate(profile: ProfileSource, fields: RequestFields) -> Flow[StoredAllocation]:
    """Plan a model, and wait for the plan.

    Args:
        fields: What is asked of it.

    Yields:
        Calls and pauses.

    Returns:
        The plan.
    """
    response = yield from posted(profile, checked(fields), {})
    if response.status_code == httpx2.codes.ACCEPTED:
        (plan,) = yield from _finished(understood(response, JobDetails))
        return plan
    return understood(response, StoredAllocation)


def allocate_batch(
    profile: ProfileSource, batch: Sequence[Mapping[str, Amount]], fields: RequestFields
) -> Flow[tuple[StoredAllocation, ...]]:
    """Plan a model for several budgets, and wait for the plans.

    Args:
        fields: What else is asked of it.

    Yields:
        Calls and pauses.

    Returns:
        One plan for each budget.
    """
    asked = checked(fields) | {"batch": [dict(budgets) for budgets in batch]}
    response = yield from posted(profile, asked, {})
    if response.status_code == httpx2.codes.ACCEPTED:
        return (yield from _finished(understood(response, JobDetails)))
    return understood(response, AllocationBatch).allocations


def submit(profile: ProfileSource, fields: RequestFields) -> Flow[JobDetails]:
    """Plan a model as a job, without waiting.

    Args:
        fields: What is asked of it.

    Yields:
        Calls.

    Returns:
        The job.
    """
    response = yield from posted(profile, checked(fields), {"prefer": "respond-async"})
    return understood(response, JobDetails)


def frontier(
    profile: ProfileSource, resource: str, points: int | Sequence[Amount], fields: RequestFields
) -> Flow[FrontierAnswer]:
    """Show the whole trade-off.

    Args:
        resource: What is traded against the objective.
        points: Exact plans: how many, or at which budgets.
        fields: What else is asked of it.

    Yields:
        Calls.

    Returns:
        The front.
    """
    exact = points if isinstance(points, int) else list(points)
    asked = checked(fields) | {"resource": resource, "points": exact}
    response = yield from posted(profile, asked, {}, "/v1/frontiers")
    return understood(response, FrontierAnswer)


def job(identifier: str, method: str = "GET") -> Flow[JobDetails]:
    """Look at a job, or cancel it.

    Args:
        method: ``GET`` or ``DELETE``.

    Yields:
        Calls.

    Returns:
        The job.
    """
    response = yield Call(method, f"/v1/jobs/{identifier}")
    return understood(response, JobDetails)


def plan(path: str) -> Flow[StoredAllocation]:
    """Get what was planned.

    Args:
        path: Where.

    Yields:
        Calls.

    Returns:
        The plan.
    """
    response = yield Call("GET", path)
    return understood(response, StoredAllocation)


def posted(
    source: ProfileSource, asked: dict[str, Any], headers: Mapping[str, str], path: str = _ALLOCATIONS
) -> Flow[httpx2.Response]:
    """Ask something about a profile.

    Args:
        asked: What, as JSON.
        headers: Headers of the request.
        path: Of whom.

    Yields:
        Calls.

    Returns:
        The answer, a success.
    """
    # By id first: most of the time the service has the profile, and a request is small.
    profile = load_profile(source)
    sha256 = profile.digest()
    response: httpx2.Response = yield called(path, asked | {"profile_id": sha256}, headers)
    if lacks(response, "profile"):
        sha256 = (yield from upload(profile)).id  # a service of another version may digest it otherwise
        response = yield called(path, asked | {"profile_id": sha256}, headers)
    if not response.is_success:
        refuse(response)
    return response


def called(path: str, asked: dict[str, Any], headers: Mapping[str, str]) -> Call:
    """Make a call that can be sent again: it has an idempotency key.

    Args:
        path: Path of the URL.
        asked: Its body.
        headers: More headers.

    Returns:
        The call.
    """
    key = {"idempotency-key": uuid4().hex}
    return Call("POST", path, json.dumps(asked).encode(), {**_JSON, **key, **headers})


def checked(fields: RequestFields) -> dict[str, Any]:
    """Check what is asked, and write it as JSON.

    Args:
        fields: As :func:`~allocator.answer.solve.solve` takes them.

    Returns:
        The fields.
    """
    # Everything is checked here too, so that a faulty request costs no upload.
    request = make_request(fields)
    asked: dict[str, Any] = AllocationRequest.model_construct(**dict(request)).model_dump(
        mode="json", include=request.model_fields_set
    )
    return asked


def _finished(accepted: JobDetails) -> Flow[tuple[StoredAllocation, ...]]:
    now = accepted
    while now.ended_at is None:
        yield Pause(_LOOK_S)
        now = yield from job(accepted.id)
    if now.problem is not None:
        raise_problem(now.problem)
    if now.state != "succeeded":
        raise ServiceError(f"the job {now.id} was {now.state}")
    plans = []
    for path in now.allocations:
        plans.append((yield from plan(path)))
    return tuple(plans)
