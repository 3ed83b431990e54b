"""``/v1/profiles``: profiles by their digest, sent once and planned with many times."""

from __future__ import annotations

import gzip
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from allocator import Profile
from api.ids import made_at
from api.keys.cache import Owner
from api.openapi.document import body_of
from api.openapi.examples import PROFILES
from api.problems.problem import ProblemError, answers
from api.routes.idempotent import Key, once_computed
from api.routes.resources import Resources, Shared, json_body
from api.store.database import run_in_write_thread
from api.store.profiles import StoredProfile, delete_profile, list_profiles, profile_body, put_profile
from api.workers.task import Task
from bitalloc.wire import ProfileEntry, ProfilePage

router = APIRouter(prefix="/v1", tags=["profiles"])
_ERRORS = answers(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE,
)
Digest = Annotated[str, Path(alias="id", pattern="^[0-9a-f]{64}$", description="Digest of the profile.")]
_STORED: dict[int | str, dict[str, Any]] = {201: {"model": ProfileEntry, "description": "Stored."}}
#: Parsing takes a fraction of this even for the largest body.
_LIMIT_S = 60.0


@router.put(
    "/profiles/{id}",
    summary="Store a profile under its digest",
    responses=_ERRORS | _STORED,
    response_model=ProfileEntry,
    openapi_extra=body_of(Profile, PROFILES),
)
async def put(sha256: Digest, request: Request, owner: Owner, shared: Shared) -> Response:
    """Store a profile. The digest is the SHA-256 of its canonical JSON, `Profile.digest()` in Python.

    Storing it again changes nothing and is answered with 200.
    """  # noqa: DOC201 - the docstring is the description in the OpenAPI document
    return await _store(await json_body(request), sha256, owner, shared)


@router.post(
    "/profiles",
    summary="Store a profile",
    responses=_ERRORS | answers(HTTPStatus.CONFLICT) | _STORED,
    response_model=ProfileEntry,
    openapi_extra=body_of(Profile, PROFILES),
)
async def post(request: Request, owner: Owner, shared: Shared, key: Key = None) -> Response:
    """Store a profile, and learn its digest."""  # noqa: DOC201 - shown in the OpenAPI document
    body = await json_body(request)
    return await once_computed(request, key, owner, shared, lambda: _store(body, None, owner, shared))


@router.get("/profiles", summary="List profiles, newest first", responses=_ERRORS)
async def profiles(
    owner: Owner,
    shared: Shared,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    cursor: Annotated[
        str | None, Query(pattern="^[0-9a-f]{32}$", description="`next_cursor` of a page.")
    ] = None,
) -> ProfilePage:
    """List your profiles, newest first, a page at a time."""  # noqa: DOC201 - shown in the OpenAPI document
    page = await run_in_threadpool(list_profiles, shared.store, owner, limit, cursor)
    return ProfilePage(items=tuple(map(_entry, page.items)), next_cursor=page.next_cursor)


@router.get("/profiles/{id}", summary="A profile", responses=_ERRORS, response_model=Profile)
async def profile(sha256: Digest, request: Request, owner: Owner, shared: Shared) -> Response:
    """Get a profile as its canonical JSON, whose SHA-256 is the digest."""  # noqa: DOC201, DOC501 - shown in the OpenAPI document
    body = await run_in_threadpool(profile_body, shared.store, owner, sha256)
    if body is None:
        raise _missing(sha256)
    headers = {"etag": f'"{sha256}"', "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
    else:
        body = await run_in_threadpool(gzip.decompress, body)
    return Response(body, media_type="application/json", headers=headers)


@router.delete("/profiles/{id}", summary="Forget a profile", status_code=204, responses=_ERRORS)
async def delete(sha256: Digest, owner: Owner, shared: Shared) -> None:
    """Forget a profile; what was planned with it stays."""  # noqa: DOC501 - shown in the OpenAPI document
    gone = await run_in_write_thread(delete_profile, shared.store, owner, sha256)
    shared.profiles.forget(owner, sha256)
    if not gone:
        raise _missing(sha256)


async def _store(body: bytes, sha256: str | None, owner: str, shared: Resources) -> Response:
    await shared.quota.check(owner, len(body))
    done = await shared.pool.run(Task("profile", owner, body, {"sha256": sha256}), _LIMIT_S)
    facts = done.facts
    stored, new = await run_in_write_thread(
        put_profile,
        shared.store,
        owner,
        facts["sha256"],
        facts["summary"],
        facts["size_bytes"],
        done.parts[0],
    )
    status = HTTPStatus.CREATED if new else HTTPStatus.OK
    where = {"location": f"/v1/profiles/{stored.sha256}"}
    return Response(_entry(stored).model_dump_json(), status, where, "application/json")


def _entry(stored: StoredProfile) -> ProfileEntry:
    return ProfileEntry(
        id=stored.sha256, size_bytes=stored.size_bytes, created_at=made_at(stored.added), **stored.summary
    )


def _missing(sha256: str) -> ProblemError:
    return ProblemError(HTTPStatus.NOT_FOUND, "no-such-profile", f"there is no profile {sha256}")
