"""Tasks by name. To add one: write a function ``(context: TaskContext) -> (facts, parts)`` and list it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from api.workers.cache import TaskContext

#: Facts are for the service, parts are bytes of the answer.
Answer = tuple[Mapping[str, Any], list[bytes]]

TASKS: Mapping[str, str] = {
    "profile": "api.workers.tasks.profile",
    "allocate": "api.workers.tasks.allocate",
    "check": "api.workers.tasks.check",
    "operate": "api.workers.tasks.operate",
}


def find_task(name: str) -> Callable[[TaskContext], Answer]:
    """Load a task.

    Returns:
        The function ``run`` of its module.
    """
    run: Callable[[TaskContext], Answer] = import_module(TASKS[name]).run
    return run
