"""Refuse bodies that are too large, by their declared length and by what really arrives."""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem


class BodyLimit:
    """ASGI middleware.

    Args:
        app: The application behind it.
        max_body_bytes: Larger bodies are answered with 413.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_body_bytes:
            await self._refuse(scope, receive, send)
            return
        received = 0
        started = False

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body_bytes:
                raise _TooLargeError
            return message

        async def replacing(message: Message) -> None:
            # The application turns the error above into an answer of its own; ours goes out in its place.
            nonlocal started
            if received <= self.max_body_bytes or started:
                started = True
                await send(message)
            elif message["type"] == "http.response.start":
                await self._refuse(scope, receive, send)

        try:
            await self.app(scope, counting, replacing)
        except _TooLargeError:
            if not started:
                await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"the body is larger than the limit of {self.max_body_bytes} bytes"
        await problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", detail)(scope, receive, send)


class _TooLargeError(Exception):
    pass
