"""What operators and their tools ask: is the process alive, can it work, how is it doing."""

from __future__ import annotations

from importlib import metadata

from fastapi import APIRouter, Request, Response

from allocator.schema import Strict
from api.metrics import CONTENT_TYPE, Metrics

router = APIRouter(tags=["operation"])


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
