"""Which methods a path takes: all of them, over every route that serves it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Match

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


def allowed_methods(request: Request) -> str:
    """List the methods that the path of a request takes.

    Each route only knows its own methods, and the first that fits the path answers with those.

    Returns:
        For the header ``Allow`` (RFC 9110, 10.2.1).
    """
    routes = request.app.router.routes
    return ", ".join(
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    )
