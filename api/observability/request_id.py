"""A name for every request: in its answer, in every line of the log, in every problem."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"
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


class RequestId:
    """ASGI middleware: take the caller's ``X-Request-ID`` where it is sane, make one otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        name = given if _SANE.fullmatch(given) else secrets.token_hex(8)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = name
            await send(message)

        token = _current.set(name)
        try:
            await self.app(scope, receive, named)
        finally:
            _current.reset(token)
