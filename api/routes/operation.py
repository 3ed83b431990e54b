"""What operators and their tools ask: is the process alive, can it work, how is it doing."""

from __future__ import annotations

from http import HTTPStatus
from importlib import metadata

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response

from allocator.contract.schema import Strict
from api.observability.metrics import CONTENT_TYPE, Metrics
from api.problems.problem import ProblemError, answers
from api.routes.resources import Shared
from api.workers.pool import no_workers

router = APIRouter(tags=["operation"])
_NOT_READY = answers(
    HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE
)


class Health(Strict):
    """That the process is alive.

    Attributes:
        status: Always ``ok``.
        version: Version of bitalloc.
    """

    status: str
    version: str


@router.get("/healthz", summary="Is the process alive?")
async def health() -> Health:
    """Answer without touching anything, so that a busy service is not restarted."""  # noqa: DOC201
    return Health(status="ok", version=metadata.version("bitalloc"))


class Readiness(Strict):
    """That the service can work.

    Attributes:
        store: Always ``writable``.
        queue: Always ``accepting``.
        workers: Always ``accepting``.
    """

    store: str
    queue: str
    workers: str


@router.get("/readyz", summary="Can the service work?", responses=_NOT_READY)
async def ready(shared: Shared) -> Readiness:
    """Answer 200 when the store takes writes, jobs can be queued and there are workers, busy or not."""  # noqa: DOC201, DOC501
    # In a thread of its own, for it has to answer even when all others are taken.
    await to_thread.run_sync(shared.store.check, limiter=CapacityLimiter(1))
    if not shared.pool.ready:
        raise no_workers()
    if not shared.jobs.accepting:
        detail = "no jobs can be taken out of the queue; it is tried again and again"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "no-queue", detail, headers={"Retry-After": "2"})
    return Readiness(store="writable", queue="accepting", workers="accepting")


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """Requests and latencies by route, jobs by state, solver time and gap by solver and size."""  # noqa: DOC201
    counted: Metrics = request.app.state.metrics
    return Response(counted.text(), media_type=CONTENT_TYPE)
