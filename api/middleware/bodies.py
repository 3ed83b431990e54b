"""Read each body once, whole and within limits, before anything else runs for its request.

A slow or endless upload costs a connection and nothing more: no thread, no worker, and no memory beyond the limits.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware.gzip_bodies import Gunzip
from api.problems.failures import response_to
from api.problems.problem import ProblemError


class Limits(Protocol):
    """What the middleware must know; :class:`api.settings.Settings` says what each is."""

    @property
    def max_body_bytes(self) -> int: ...  # noqa: D102 - described in the settings

    @property
    def max_waiting_bytes(self) -> int: ...  # noqa: D102

    @property
    def upload_timeout_s(self) -> float: ...  # noqa: D102


class Bodies:
    """ASGI middleware.

    Args:
        limits: Bytes of one body and of all that are here at a time, and seconds for an upload.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self._here_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or not _has_body(headers := Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        held = _Held(self)
        try:
            try:
                body = await self._read(scope, receive, headers, held)
            except ProblemError as error:
                await response_to(error)(scope, receive, send)
                return
            except ClientDisconnect:
                return
            scope.setdefault("state", {})["received_bytes"] = len(body)
            await self.app(_plain(scope, len(body)), _replaying(body, receive), send)
        finally:
            held.release()

    async def _read(self, scope: Scope, receive: Receive, headers: Headers, held: _Held) -> bytes:
        most = min(self.limits.max_body_bytes, scope.get("state", {}).get("max_body_bytes", 2**62))
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > most:
            raise _too_large(most)
        gunzip = _decoder(headers)
        body = bytearray()
        arrived_bytes = 0
        try:
            async with asyncio.timeout(self.limits.upload_timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    more = message.get("more_body", False)
                    chunk: bytes = message.get("body", b"")
                    arrived_bytes += len(chunk)
                    if arrived_bytes > most:
                        raise _too_large(most)
                    for part in [chunk] if gunzip is None else gunzip.pieces(chunk):
                        if len(body) + len(part) > most:
                            raise _too_large(most)
                        held.add(len(part))
                        body += part
                        if gunzip is not None:
                            await asyncio.sleep(0)  # a well-packed chunk must not keep others waiting
        except TimeoutError:
            limit_s = self.limits.upload_timeout_s
            detail = f"the body did not arrive within {limit_s:g} s; send it faster or packed (gzip)"
            raise ProblemError(
                HTTPStatus.REQUEST_TIMEOUT, "upload-too-slow", detail, headers={"Connection": "close"}
            ) from None
        if gunzip is not None:
            gunzip.finish()
        return bytes(body)


class _Held:
    """The memory of one body, in the account of all."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._bytes = 0

    def add(self, size_bytes: int) -> None:
        if self._bodies._here_bytes + size_bytes > self._bodies.limits.max_waiting_bytes:
            detail = "bodies of other requests fill the memory set aside for them; try again"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, headers={"Retry-After": "1"})
        self._bodies._here_bytes += size_bytes
        self._bytes += size_bytes

    def release(self) -> None:
        self._bodies._here_bytes -= self._bytes
        self._bytes = 0


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _decoder(headers: Headers) -> Gunzip | None:
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding in {"gzip", "x-gzip"}:
        return Gunzip()
    if coding in {"identity", ""}:
        return None
    detail = f"expected Content-Encoding gzip or none, got {coding[:40]!r}"
    raise ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-coding", detail, headers={"Accept-Encoding": "gzip"}
    )


def _too_large(most: int) -> ProblemError:
    detail = f"the body is larger than the limit of {most} bytes"
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", detail)


def _plain(scope: Scope, size_bytes: int) -> Scope:
    # The same dictionary goes on: the router writes the route into it, which the log and the metrics read.
    scope["headers"] = list(scope["headers"])
    headers = MutableHeaders(scope=scope)
    for name in ("content-encoding", "transfer-encoding"):
        del headers[name]
    headers["content-length"] = str(size_bytes)
    return scope


def _replaying(body: bytes, receive: Receive) -> Receive:
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()  # the end of the connection

    return replay
