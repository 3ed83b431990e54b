"""Parse request bodies, within limits that are checked before anything large is built."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Any, NoReturn, Protocol

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from allocator import Fault, InvalidInputError
from api.json_shape import json_shape
from api.problems import ProblemError

#: Larger bodies are parsed off the event loop; below, the change of thread would cost more than the parsing.
_LARGE_BYTES = 2**18
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonLimits(Protocol):
    """What the parser must know; :class:`api.settings.Settings` says what each is."""

    @property
    def max_json_depth(self) -> int: ...  # noqa: D102 - described in the settings

    @property
    def max_json_values(self) -> int: ...  # noqa: D102

    @property
    def max_layers(self) -> int: ...  # noqa: D102

    @property
    def max_formats(self) -> int: ...  # noqa: D102


class JsonRoute(APIRoute):
    """A route whose body is parsed by :func:`decoded`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Build the handler.

        Returns:
            FastAPI's handler, around our way to read JSON.
        """
        handler = super().get_route_handler()

        async def limited(request: Request) -> Response:
            return await handler(_LimitedRequest(request.scope, request.receive))

        return limited


def decoded(body: bytes, limits: JsonLimits) -> object:
    """Parse a JSON body.

    Args:
        body: UTF-8 text.
        limits: Levels, values, layers and formats that it may have.

    Returns:
        The document. NaN and infinity come through, for the models to point at.

    Raises:
        ProblemError: The text is not JSON, or nested too deep, or too large, or has a key twice, or half a character.
        InvalidInputError: A profile in it has too many layers or formats; points at them.
    """
    shape = json_shape(body, limits.max_json_depth, limits.max_json_values)
    if shape.depth > limits.max_json_depth:
        _refuse(f"JSON is nested deeper than {limits.max_json_depth} levels; a profile needs six")
    if shape.values > limits.max_json_values:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too-many-values",
            f"the body holds more than {limits.max_json_values} values; send less in one request, or ask the operator "
            "to raise BITALLOC_MAX_JSON_VALUES",
        )
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_unique)
        if _SURROGATE.search(body):
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        _refuse(f"JSON breaks at character {error.pos}: {error.msg}")
    except UnicodeDecodeError as error:
        _refuse(f"JSON has to be UTF-8, and byte {error.start} is not")
    except UnicodeEncodeError:
        _refuse("JSON has half a surrogate pair (\\ud800 to \\udfff alone), which is no character")
    except ValueError as error:  # more digits than Python turns into an integer
        _refuse(f"JSON has a number that cannot be read: {error}")
    if faults := list(_oversized(document, limits)):
        raise InvalidInputError(*faults)
    return document


class _LimitedRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 - as Starlette has it
        if not hasattr(self, "_json"):
            body = await self.body()
            limits: JsonLimits = self.app.state.settings
            try:
                if len(body) < _LARGE_BYTES:
                    self._json = decoded(body, limits)
                else:
                    self._json = await run_in_threadpool(decoded, body, limits)
            except InvalidInputError as error:
                # FastAPI makes a bare 400 of every other exception in here.
                raise ProblemError(
                    HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input", "the profile is too large", error.faults
                ) from None
        return self._json


def _refuse(detail: str) -> NoReturn:
    raise ProblemError(HTTPStatus.BAD_REQUEST, "invalid-json", detail) from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        _refuse(f"JSON has the key {twice[:80]!r} twice in one object; which one counts is anybody's guess")
    return members


def _oversized(document: object, limits: JsonLimits) -> Iterator[Fault]:
    # A profile is the body, or one of its members.
    if not isinstance(document, dict):
        return
    places = {"": document} | {f"/{key}": value for key, value in document.items() if key == "profile"}
    for where, profile in places.items():
        if not isinstance(profile, dict):
            continue
        for member, most, variable in (
            ("layers", limits.max_layers, "BITALLOC_MAX_LAYERS"),
            ("formats", limits.max_formats, "BITALLOC_MAX_FORMATS"),
        ):
            found = profile.get(member)
            if isinstance(found, (list, dict)) and len(found) > most:
                yield Fault(
                    f"{where}/{member}",
                    f"expected at most {most} {member}, got {len(found)}; the operator can raise {variable}",
                )
