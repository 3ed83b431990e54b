"""Bodies as they came, for workers to parse."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import Request

from api.problems.problem import ProblemError


async def json_body(request: Request) -> bytes:
    """Read the body of a request that has to be JSON.

    Returns:
        The body, not parsed.

    Raises:
        ProblemError: The content type is another.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        detail = "send a JSON object with Content-Type: application/json"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
    return await request.body()
