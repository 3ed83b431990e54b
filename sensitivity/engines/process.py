"""Processes of this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from sensitivity.engines.dispatch import Site
from sensitivity.engines.safe_path import safe_path


@contextmanager
def opened(workers: int) -> Iterator[Site]:
    """Start processes.

    They are spawned rather than forked: a fork of a process with threads, such as torch's, can hang.

    Yields:
        The executor; processes end with it.
    """
    with safe_path():  # processes start when there is work for them
        executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
        try:
            yield Site(executor)
        finally:
            executor.shutdown(cancel_futures=True)
