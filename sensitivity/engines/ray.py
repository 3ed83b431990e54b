"""Ray: one machine or many, GPUs, and an object store that a stage is put into once.

Source: https://docs.ray.io. To use a cluster, call ``ray.init(address=…)`` first; otherwise one is started here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from allocator.contract.errors import require
from sensitivity.engines.dispatch import Site
from sensitivity.engines.safe_path import safe_path


@contextmanager
def opened(workers: int, **resources: Any) -> Iterator[Site]:  # noqa: ANN401
    """Use the Ray that is running, or start one on this machine.

    Args:
        workers: Number of CPUs of a Ray that is started here.
        **resources: What a piece needs, as Ray calls it: ``num_gpus=1`` gives every worker a device of its own.

    Yields:
        The executor; a Ray that was started here ends with it.
    """
    ray = require("ray", "ray")
    mine = not ray.is_initialized()
    if mine:
        with safe_path():  # Ray's own processes hand their variables on to the workers that they start later
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        errors = ray.exceptions
        lost = (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
        )
        yield Site(_RayExecutor(resources), lost)
    finally:
        if mine:
            ray.shutdown()


class _RayExecutor(Executor):
    def __init__(self, resources: dict[str, Any]) -> None:
        ray = require("ray", "ray")
        # Lost workers are counted by whoever waits for the piece, who can say which piece it was.
        self._call = ray.remote(max_retries=0, **resources)(_call)
        self._put = ray.put
        self._stored: tuple[object, Any] = (None, None)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        """Run a function on a worker.

        Args:
            *args: Its arguments; the first is kept in the object store for as long as it stays the same.

        Returns:
            What will be there.
        """
        first, *rest = args
        if self._stored[0] is not first:
            self._stored = (first, self._put(first))
        future: Future[Any] = self._call.remote(fn, self._stored[1], rest, kwargs).future()
        return future


def _call(fn: Callable[..., Any], first: object, rest: list[object], kwargs: dict[str, object]) -> object:
    return fn(first, *rest, **kwargs)
