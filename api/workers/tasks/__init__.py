"""Tasks by name. To add one: write a function ``(context: TaskContext) -> (facts, parts)`` and list it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from allocator.contract.registry import Registry
from api.workers.cache import TaskContext

#: Facts are for the service, parts are bytes of the answer.
Answer = tuple[Mapping[str, Any], list[bytes]]

TASKS = Registry[Callable[[TaskContext], Answer]](
    "task",
    {
        "profile": "api.workers.tasks.profile",
        "allocate": "api.workers.tasks.allocate",
        "check": "api.workers.tasks.check",
        "operate": "api.workers.tasks.operate",
    },
    attribute="run",
)
