"""Where pieces are computed: on the standard library's ``concurrent.futures.Executor``, by name.

To add one: write ``sensitivity/engines/<name>.py`` with ``opened(workers) -> AbstractContextManager[Site]`` and list
it here.
"""

from sensitivity.engines.dispatch import Dispatch, Site, dispatching

__all__ = ["EXECUTORS", "Dispatch", "Site", "dispatching"]

#: Name → module; imported when asked for, since each may need a package of its own.
EXECUTORS: dict[str, str] = {
    "process": "sensitivity.engines.process",
    "ray": "sensitivity.engines.ray",
    "dask": "sensitivity.engines.dask",
}
