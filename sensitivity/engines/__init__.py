"""Where pieces are computed: on the standard library's ``concurrent.futures.Executor``, by name.

To add one: write ``sensitivity/engines/<name>.py`` with ``opened(workers) -> AbstractContextManager[Site]`` and list
it here.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from allocator.contract.registry import Registry
from sensitivity.engines.dispatch import Dispatch, Site, dispatching

__all__ = ["EXECUTORS", "Dispatch", "Opener", "Site", "dispatching"]

#: Number of workers → an executor, open for a while.
Opener = Callable[[int], AbstractContextManager[Site]]

#: Imported when asked for, since each may need a package of its own.
EXECUTORS = Registry[Opener](
    "executor",
    {
        "process": "sensitivity.engines.process",
        "ray": "sensitivity.engines.ray",
        "dask": "sensitivity.engines.dask",
    },
    attribute="opened",
    also=("serial",),
)
