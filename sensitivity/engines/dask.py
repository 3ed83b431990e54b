"""Dask: its own executor, on the cluster of the current client or on one that is started here.

Source: https://distributed.dask.org. To use a cluster, make a ``distributed.Client(address)`` first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from allocator.contract.errors import require
from sensitivity.engines.dispatch import Site
from sensitivity.engines.safe_path import safe_path


@contextmanager
def opened(workers: int) -> Iterator[Site]:
    """Use the current client, or start a cluster on this machine.

    Args:
        workers: Number of processes of a cluster that is started here.

    Yields:
        The executor; a cluster that was started here ends with it. Dask itself computes pieces of lost workers again,
        as often as ``distributed.scheduler.allowed-failures`` says.
    """
    distributed = require("distributed", "dask")
    with ExitStack() as stack:
        try:
            client = distributed.default_client()
        except ValueError:
            stack.enter_context(safe_path())
            sizes = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
            cluster = stack.enter_context(distributed.LocalCluster(**sizes))
            client = stack.enter_context(distributed.Client(cluster))
        # Not pure: the same piece sent again is to be computed again.
        executor = stack.enter_context(client.get_executor(pure=False))
        yield Site(executor, (distributed.KilledWorker,))
