"""Functions that block, off the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from anyio import to_thread

P = ParamSpec("P")
T = TypeVar("T")


async def blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that blocks, in a thread.

    Args:
        function: The function.
        *args: Its arguments.
        **kwargs: Its arguments by name.

    Returns:
        What it returns.
    """
    return await to_thread.run_sync(lambda: function(*args, **kwargs))
