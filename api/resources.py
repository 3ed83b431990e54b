"""What the routes share: the settings, the database and the workers, opened and closed with the application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, ParamSpec, TypeVar

from anyio import to_thread
from fastapi import Depends, FastAPI, Request

from api.problems import ProblemError
from api.settings import Settings
from api.store import Store, open_store
from api.store.profiles import has_profile, profile_body
from api.work import Pool
from api.work.task import Profiles

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Resources:
    """What a route may use.

    Attributes:
        settings: The settings.
        store: The database; its functions block, so call them through :func:`blocking`.
        pool: The workers.
    """

    settings: Settings
    store: Store
    pool: Pool


def resources_of(request: Request) -> Resources:
    """Get what the routes share.

    Args:
        request: A request.

    Returns:
        The resources of the application that serves it.
    """
    opened: Resources = request.app.state.resources
    return opened


Shared = Annotated[Resources, Depends(resources_of)]


async def blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that blocks, off the event loop.

    Args:
        function: The function.
        *args: Its arguments.
        **kwargs: Its arguments by name.

    Returns:
        What it returns.
    """
    return await to_thread.run_sync(lambda: function(*args, **kwargs))


def profiles_for(owner: str, shared: Resources) -> Profiles:
    """Hand stored profiles to workers, each to its owner only.

    Args:
        owner: Whose request it is.
        shared: The resources.

    Returns:
        For :attr:`api.work.Task.profiles`.
    """

    async def hand_out(sha256: str, known: bool) -> bytes:
        if known:
            body = b"" if await blocking(has_profile, shared.store, owner, sha256) else None
        else:
            body = await blocking(profile_body, shared.store, owner, sha256)
        if body is None:
            detail = f"there is no profile {sha256}; PUT it to /v1/profiles/{sha256} first"
            raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-profile", detail)
        return body

    return hand_out


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what the routes share, and close it at the end.

    Args:
        app: The application.

    Yields:
        Nothing; ``app.state.resources`` is there meanwhile.
    """
    settings: Settings = app.state.settings
    async with Pool(settings) as pool:
        store = await blocking(open_store, settings)
        try:
            app.state.resources = Resources(settings, store, pool)
            yield
        finally:
            store.close()
