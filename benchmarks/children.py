"""Python processes that benchmarks start: they import this repository, and never what lies in the current folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: How they are started; ``-P`` keeps the current folder off their path.
PYTHON = (sys.executable, "-P")


def environment(**more: str) -> dict[str, str]:
    """Make the environment of a process, in which it finds this repository.

    Args:
        **more: Variables to set.

    Returns:
        All its variables.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, **more}
