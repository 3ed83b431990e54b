"""One line of the log and one sample of the metrics for every request."""

from __future__ import annotations

import logging
import time
from http import HTTPMethod

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.observability.metrics import Metrics

_LOG = logging.getLogger("bitalloc.access")
_METHODS = frozenset(HTTPMethod)


class Observe:
    """ASGI middleware.

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

        async def watched(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            taken_s = time.perf_counter() - began
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
