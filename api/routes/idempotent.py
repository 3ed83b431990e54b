"""``Idempotency-Key``: the same key and body get the same answer, and never twice the work."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated

from fastapi import Header, Request, Response
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from api.errors import PASSING
from api.problems.problem import ProblemError
from api.routes.resources import Resources
from api.store import Store
from api.store.database import run_in_write_thread
from api.store.idempotency import Claim, answer_key, claim_key, release_key, take_over_key
from api.store.replicas import is_alive

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Makes a request safe to send again: the same key with the same body gets the same answer.",
    ),
]
_LEVEL = 1
#: Writes the answer beside what was made, in one transaction.
Settle = Callable[[Connection, Response], None]


async def once(
    request: Request,
    key: str | None,
    owner: str,
    shared: Resources,
    answer: Callable[[Settle], Awaitable[Response]],
) -> Response:
    """Answer a request, once for each key.

    Args:
        request: The request, whose body has been read.
        key: Its key; without one it is simply answered.
        answer: Does the work; calls what it is given in the transaction that keeps the result.

    Returns:
        The answer, or that to the first request with this key.
    """
    if key is None:
        return await answer(lambda connection, response: None)  # noqa: ARG005 - nothing to settle
    body = await request.body()
    asked = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + body).hexdigest()
    replica = shared.jobs.replica
    keep_s = shared.settings.keep_idempotency_s
    before = await run_in_write_thread(claim_key, shared.store, owner, key, asked, replica, keep_s)
    if before is not None:
        taken = await _taken(before, asked, key, owner, shared)
        if taken is not None:
            return taken

    def settle(connection: Connection, response: Response) -> None:
        headers = {
            name: value
            for name, value in response.headers.items()
            if name in {"location", "content-type", "retry-after", "preference-applied"}
        }
        packed = gzip.compress(bytes(response.body), _LEVEL)
        answer_key(connection, owner, key, response.status_code, headers, packed)

    try:
        return await answer(settle)
    except BaseException:
        with contextlib.suppress(
            *PASSING
        ):  # the client is told why its request failed, not why its key could not go
            await run_in_write_thread(release_key, shared.store, owner, key)
        raise


async def once_computed(
    request: Request,
    key: str | None,
    owner: str,
    shared: Resources,
    compute: Callable[[], Awaitable[Response]],
) -> Response:
    """Answer a request that keeps nothing but its answer, once for each key.

    Args:
        key: Its key; without one it is simply answered.
        compute: Does the work; where it dies before its answer is kept, it is done again.

    Returns:
        The answer, or that to the first request with this key.
    """

    async def answer(settle: Settle) -> Response:
        response = await compute()
        if key is not None:
            await run_in_write_thread(keep, shared.store, settle, response)
        return response

    def keep(store: Store, settle: Settle, response: Response) -> None:
        with store.writing() as connection:
            settle(connection, response)

    return await once(request, key, owner, shared, answer)


async def _taken(before: Claim, asked: str, key: str, owner: str, shared: Resources) -> Response | None:
    if before.asked_sha256 != asked:
        detail = f"the Idempotency-Key {key!r} was used with another request; take a new key for each request"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency-key-reused", detail)
    if before.status is not None:
        body = await run_in_threadpool(gzip.decompress, before.answer)
        return Response(body, before.status, dict(before.headers) | {"idempotency-replayed": "true"})
    if not await run_in_threadpool(is_alive, shared.store, before.replica):
        replica = shared.jobs.replica
        if await run_in_write_thread(take_over_key, shared.store, owner, key, before.replica, replica):
            return None
    detail = f"the first request with the Idempotency-Key {key!r} is still in flight; ask again later"
    raise ProblemError(HTTPStatus.CONFLICT, "idempotency-key-in-flight", detail, headers={"retry-after": "1"})
