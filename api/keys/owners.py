"""Whose request it is: every row in the database belongs to an owner.

Dependencies are coroutines even where they wait for nothing: FastAPI runs plain functions in threads, each for some
100 µs.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

#: The owner where the service has no keys.
NOBODY = "local"


async def owner_of(request: Request) -> str:
    """Tell whose request it is.

    Returns:
        The id of its API key, as the middleware found it; :data:`NOBODY` where the service has no keys.
    """
    owner: str = getattr(request.state, "owner", NOBODY)
    return owner


Owner = Annotated[str, Depends(owner_of)]
