"""Signs of life: how services that share a database notice that one of them is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from api.blocking import blocking
from api.store import Store, StoreFullError, StoreUnavailableError
from api.store.replicas import beat, forget, leave, silent


class Leases:
    """This service's sign of life, and its eye on the others.

    Args:
        store: The database.
        replica: Id of this service.
        lease_s: A service that has been silent for so long is gone.
        take_over: Told which services are gone; called again until they have no jobs left.
    """

    def __init__(
        self, store: Store, replica: str, lease_s: float, take_over: Callable[[list[str]], Awaitable[None]]
    ) -> None:
        self._store = store
        self._replica = replica
        self._lease_s = lease_s
        self._take_over = take_over

    async def begin(self) -> None:
        """Give the first sign of life."""
        await blocking(beat, self._store, self._replica)

    async def keep(self) -> None:
        """Go on giving signs of life, and take over from those who stopped."""
        steady_since = float("-inf")
        while True:
            await asyncio.sleep(self._lease_s / 4)
            try:
                await blocking(beat, self._store, self._replica)
                # After the database was away, the others get the time to say that they live.
                if time.monotonic() - steady_since > self._lease_s:
                    gone = await blocking(silent, self._store, self._lease_s)
                    if gone:
                        await self._take_over(gone)
                        await blocking(forget, self._store, gone)
            except (StoreUnavailableError, StoreFullError):
                steady_since = time.monotonic()

    async def end(self) -> None:
        """Tell the others that this service is gone."""
        await blocking(leave, self._store, self._replica)
