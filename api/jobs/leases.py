"""Signs of life: how services that share a database notice that one of them is gone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from starlette.concurrency import run_in_threadpool

from api.errors import PASSING
from api.store import Store
from api.store.database import run_in_write_thread
from api.store.replicas import beat, declare_gone, leave, signs_of_life

_LOG = logging.getLogger(__name__)


class Watch:
    """Notices who has fallen silent, by this process's own steady clock: the clocks of machines differ, and are set.

    Args:
        lease_s: A service that gave no new sign for so long is gone.

    Example:
        >>> watch = Watch(lease_s=2.0)
        >>> [watch.silent({"a": 7.0}, now=at) for at in (0.0, 1.0, 2.0)]
        [{}, {}, {'a': 7.0}]
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[str, tuple[float, float]] = {}
        self._looked_at = float("-inf")

    def silent(self, signs: Mapping[str, float], now: float) -> dict[str, float]:
        """Look at everybody's last sign.

        Args:
            signs: Service to its last sign.
            now: Time of a clock that nobody sets, in seconds.

        Returns:
            Those that are gone, each with its last sign.
        """
        if (
            now - self._looked_at > self._lease_s
        ):  # who has not looked for so long has slept, maybe with the others
            self.restart()
        self._looked_at = now
        before = self._seen
        self._seen = {
            each: before[each] if each in before and before[each][0] == sign else (sign, now)
            for each, sign in signs.items()
        }
        return {each: sign for each, (sign, since) in self._seen.items() if now - since >= self._lease_s}

    def restart(self) -> None:
        """Give everybody the time to say that they live, after nobody could."""
        self._seen = {}


class Leases:
    """This service's sign of life, and its eye on the others.

    Args:
        replica: Id of this service.
        lease_s: A service that has been silent for so long is gone.
        queued: Told that jobs of a service that is gone are in the queue again.
    """

    def __init__(self, store: Store, replica: str, lease_s: float, queued: Callable[[], None]) -> None:
        self._store = store
        self._replica = replica
        self._lease_s = lease_s
        self._queued = queued

    async def begin(self) -> None:
        """Give the first sign of life."""
        await run_in_write_thread(beat, self._store, self._replica)

    async def keep(self) -> None:
        """Go on giving signs of life, and take over from those who stopped."""
        watch = Watch(self._lease_s)
        while True:
            await asyncio.sleep(self._lease_s / 4)
            try:
                await run_in_write_thread(beat, self._store, self._replica)
                signs = await run_in_threadpool(signs_of_life, self._store)
                silent = watch.silent(signs, time.monotonic())
                if await run_in_write_thread(declare_gone, self._store, silent):
                    self._queued()
            except PASSING:
                watch.restart()
            except Exception:  # a damaged table, say: the others must not think that this service is dead
                watch.restart()
                _LOG.exception("the signs of life cannot be kept; they are tried again")

    async def end(self) -> None:
        """Tell the others that this service is gone, and leave its jobs to them."""
        await run_in_write_thread(leave, self._store, self._replica)
