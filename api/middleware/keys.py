"""Let in who may come in, and as often as they may, before anything of the request is read."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.keys.cache import NOBODY, KeyCache
from api.keys.key import Key
from api.problems.failures import response_to
from api.problems.problem import ProblemError

_MINUTE_S = 60.0
_MOST_KEYS = 4096


class Rates:
    """Buckets of keys: each holds a minute's requests, is full at first, and fills within a minute.

    Args:
        clock: Tells seconds, and never goes back.

    Example:
        >>> rates = Rates(clock=lambda: 7.0)
        >>> [rates.wait_s("key", most_per_minute=2) for _ in range(3)]
        [0, 0, 30]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, key: str, most_per_minute: int) -> int:
        """Return 0 and count a request, if it may come now; else after how many seconds it may."""
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + _MINUTE_S / most_per_minute
        early_s = full_at - now - _MINUTE_S
        if early_s > 1e-9:
            return max(1, math.ceil(early_s - 1e-9))
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > _MOST_KEYS:
            self._full_at.popitem(last=False)
        return 0


class Keys:
    """ASGI middleware: every route under ``/v1`` needs a key where there are keys.

    Args:
        app: The application behind it; its ``state.keys`` is a :class:`~api.keys.cache.KeyCache`.
        max_requests_per_minute: For keys without a limit of their own.
    """

    def __init__(self, app: ASGIApp, max_requests_per_minute: int) -> None:
        self.app = app
        self._most = max_requests_per_minute
        self._rates = Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and _is_guarded(scope["path"]):
            try:
                await self._admit(scope)
            except ProblemError as error:
                await response_to(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        book: KeyCache = scope["app"].state.keys
        state = scope.setdefault("state", {})
        headers = Headers(scope=scope)
        if not await book.needed():
            _refuse_other_hosts(headers.get("host", ""))
            state["owner"] = NOBODY
            return
        sent = _sent(headers)
        key = await book.find(sent)
        if key is None:
            what = "this key is unknown or revoked" if sent else "this route needs an API key"
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "key-needed",
                f"{what}; send `Authorization: Bearer KEY`; the operator makes keys with `bitalloc keys create`",
                headers={"WWW-Authenticate": "Bearer"},
            )
        state["owner"] = key.id
        if key.max_body_bytes is not None:
            state["max_body_bytes"] = key.max_body_bytes
        self._count(key)

    def _count(self, key: Key) -> None:
        most = key.max_requests_per_minute or self._most
        if wait_s := self._rates.wait_s(key.id, most):
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-requests",
                f"this key may send {most} requests per minute; try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )


def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own.

    Args:
        host: Name or address, without port.

    Returns:
        Whether only this machine reaches it.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_guarded(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def _sent(headers: Headers) -> str:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _refuse_other_hosts(host: str) -> None:
    # A page elsewhere can point its own name at 127.0.0.1 and have a browser here ask us (DNS rebinding).
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if not is_loopback(name):
        shown = host[:80]
        detail = f"without API keys the service is for localhost only, not for {shown!r}; see `bitalloc keys create`"
        raise ProblemError(HTTPStatus.FORBIDDEN, "local-only", detail)
