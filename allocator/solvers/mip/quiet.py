"""Native libraries print; what they print must not end up between the lines of somebody's JSON."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Let native code that writes to standard output write to standard error instead.

    HiGHS prints when a heuristic of its own finds a plan, whatever its options say.

    Yields:
        Nothing.
    """
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # a service without standard streams
        yield
        return
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # C keeps its own buffer
        os.dup2(kept, 1)
        os.close(kept)
