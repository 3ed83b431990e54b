"""Every request has an id, in its answer, in every line of the log and in every problem; one line; one sample."""

from __future__ import annotations

import logging
import re
import secrets
import time
from contextvars import ContextVar
from http import HTTPMethod

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.observability.metrics import Metrics

HEADER = "X-Request-ID"
_LOG = logging.getLogger("bitalloc.access")
_METHODS = frozenset(HTTPMethod)
# No spaces, quotes or line breaks: an id from outside cannot forge a line of the log.
_SANE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_current: ContextVar[str | None] = ContextVar("bitalloc_request_id", default=None)


def current_request_id() -> str | None:
    """Tell which request is being served.

    Returns:
        Its id; None outside of a request.

    Example:
        >>> current_request_id() is None
        True
    """
    return _current.get()


class Observe:
    """ASGI middleware: take the caller's ``X-Request-ID`` where it is sane, make one otherwise; log and count.

    Routes are told apart by their template (``/v1/jobs/{id}``) and methods by name, so that no caller can make up new
    series of metrics.

    Args:
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status, sent_bytes = 0, 0
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _SANE.fullmatch(given) else secrets.token_hex(8)

        async def watched(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            else:
                sent_bytes += len(message.get("body", b""))
            await send(message)

        token = _current.set(request_id)
        try:
            await self.app(scope, receive, watched)
        finally:
            self._count(scope, status, sent_bytes, time.perf_counter() - began)
            _current.reset(token)

    def _count(self, scope: Scope, status: int, sent_bytes: int, taken_s: float) -> None:
        route: str = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self.metrics.answered(method, route, status, taken_s)
        state = scope.get("state", {})
        line = {
            "method": method,
            "path": scope["path"],
            "route": route,
            "status": status,  # 0: the client went away before there was an answer
            "duration_ms": round(taken_s * 1e3, 3),
            "received_bytes": state.get("received_bytes", 0),
            "sent_bytes": sent_bytes,
            "owner": state.get("owner"),
        }
        _LOG.info("request", extra={"fields": line})
