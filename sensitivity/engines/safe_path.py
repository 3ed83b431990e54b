"""Children of this process that do not import what lies in the current folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "PYTHONSAFEPATH"


@contextmanager
def safe_path() -> Iterator[None]:
    """Start Python processes as with ``python -P`` while the block lasts.

    :mod:`multiprocessing` and what builds on it start ``python -c``, which puts the current folder first on the path:
    a file there with the name of a module would be run instead of the module, before the path of this process is
    passed on. They take no flags, but the variable that stands for one.

    Yields:
        Nothing.
    """
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
