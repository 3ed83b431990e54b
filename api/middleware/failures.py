"""The last line: what nobody expected becomes a 500 without a word about why, and a full entry in the log."""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems.failures import PROBLEMS, response_to
from api.problems.problem import ProblemError

_LOG = logging.getLogger(__name__)


class Failures:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if isinstance(error, tuple(PROBLEMS)) and not begun:  # of a middleware: the database is away, say
                await response_to(error)(scope, receive, send)
                return
            _LOG.error("unexpected error in %s %s", scope["method"], scope["path"], exc_info=error)
            if begun:
                raise  # the server cuts the answer off, which is how the client learns that it is not whole
            detail = "the service failed; the operator's log has the reason under this request_id"
            unexpected = ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)
            await response_to(unexpected)(scope, receive, send)
