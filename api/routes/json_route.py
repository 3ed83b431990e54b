"""Routes whose bodies FastAPI reads, within our limits."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from allocator import InvalidInputError
from api.problems import ProblemError
from api.work.errors import InvalidJsonError
from api.work.json_body import decoded

#: Larger bodies are parsed off the event loop; below, the change of thread would cost more than the parsing.
_LARGE_BYTES = 2**18


class JsonRoute(APIRoute):
    """A route whose body is parsed by :func:`api.work.json_body.decoded`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Build the handler.

        Returns:
            FastAPI's handler, around our way to read JSON.
        """
        handler = super().get_route_handler()

        async def limited(request: Request) -> Response:
            return await handler(_LimitedRequest(request.scope, request.receive))

        return limited


class _LimitedRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 - as Starlette has it
        if not hasattr(self, "_json"):
            body = await self.body()
            limits = self.app.state.settings.json_limits
            try:
                if len(body) < _LARGE_BYTES:
                    self._json = decoded(body, limits)
                else:
                    self._json = await run_in_threadpool(decoded, body, limits)
            # FastAPI makes a bare 400 of every exception in here that is not of HTTP.
            except InvalidJsonError as error:
                raise ProblemError(HTTPStatus.BAD_REQUEST, "invalid-json", str(error)) from None
            except InvalidInputError as error:
                detail = "the body holds too much"
                raise ProblemError(
                    HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input", detail, error.faults
                ) from None
        return self._json
