"""A plugin of workers: a machine on which no optional solver is installed."""

from __future__ import annotations

import sys


def register() -> None:
    # None is how Python itself marks a module that cannot be imported.
    for package in ("ortools", "pulp"):
        sys.modules[package] = None  # type: ignore[assignment]
