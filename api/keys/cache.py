"""Who is asking: looked up in the database, remembered for a second. Every row in the database belongs to an owner."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from api.keys.key import Key, digest_of, identifier_of, matches
from api.keys.table import find_key, has_keys
from api.store import Store

#: The owner where the service has no keys.
NOBODY = "local"
#: How long an answer of the database is believed, which is how long a revoked key still works.
TRUST_S = 1.0
_MOST = 4096


async def owner_of(request: Request) -> str:
    """Tell whose request it is.

    Returns:
        The id of its API key, as the middleware found it; :data:`NOBODY` where the service has no keys.
    """
    owner: str = getattr(request.state, "owner", NOBODY)
    return owner


Owner = Annotated[str, Depends(owner_of)]


class KeyCache:
    """The keys of one service."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[str, tuple[float, Key | None]] = OrderedDict()
        self._needed = (-TRUST_S, False)
        self._good: OrderedDict[str, tuple[float, bool]] = OrderedDict()

    async def needed(self) -> bool:
        """Tell whether requests need a key.

        Returns:
            Whether there ever was one; once there was, always.
        """
        asked, answer = self._needed
        if not answer and time.monotonic() - asked > TRUST_S:
            self._needed = time.monotonic(), await run_in_threadpool(has_keys, self._store)
        return self._needed[1]

    async def find(self, text: str) -> Key | None:
        """Return the key that a client sent, if it is good."""
        identifier = identifier_of(text)
        if identifier is None:
            return None
        # By digest: memory never holds a key longer than its request.
        digest = digest_of(text)
        asked, key = self._known.get(digest, (-TRUST_S, None))
        if time.monotonic() - asked > TRUST_S:
            found = await run_in_threadpool(find_key, self._store, identifier)
            key = found if matches(found, text) else None
            self._known[digest] = time.monotonic(), key
            self._known.move_to_end(digest)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        return key

    async def is_good(self, owner: str) -> bool:
        """Tell whether somebody who was let in still may be here; for answers that take long.

        Args:
            owner: Id of the key; that of nobody where there were no keys.

        Returns:
            Whether the key is not revoked; of nobody, whether there still are no keys.
        """
        if owner == NOBODY:
            return not await self.needed()
        asked, good = self._good.get(owner, (-TRUST_S, False))
        if time.monotonic() - asked > TRUST_S:
            key = await run_in_threadpool(find_key, self._store, owner)
            good = key is not None and key.revoked is None
            self._good[owner] = time.monotonic(), good
            self._good.move_to_end(owner)
            if len(self._good) > _MOST:
                self._good.popitem(last=False)
        return good
