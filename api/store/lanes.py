"""Writing, off the event loop and out of the way of those who read.

Functions of the store block. Reads may take any thread. Writers of SQLite wait for each other, and for other programs:
if they waited in threads, there would soon be none left to read with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from api.errors import StoreUnavailableError
from api.store.database import Store

P = ParamSpec("P")
T = TypeVar("T")
#: A writer that had no turn for so long is told to come back.
_TURN_S = 10.0


async def in_writing(
    function: Callable[Concatenate[Store, P], T], store: Store, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a function that writes, in a thread, when it is its turn.

    Args:
        *args: Its other arguments.
        **kwargs: Its arguments by name.

    Returns:
        What it returns.

    Raises:
        StoreUnavailableError: It was not its turn for too long.
    """
    try:
        async with asyncio.timeout(_TURN_S):
            await store.writers.acquire()
    except TimeoutError as error:
        raise StoreUnavailableError("the database does not get done with what it has to write") from error
    try:
        return await to_thread.run_sync(partial(function, store, *args, **kwargs), limiter=CapacityLimiter(1))
    finally:
        store.writers.release()


async def in_a_thread_of_its_own(function: Callable[[], T]) -> T:
    """Return what a function returns that has to answer even when all other threads are taken."""
    return await to_thread.run_sync(function, limiter=CapacityLimiter(1))
