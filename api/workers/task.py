"""What is asked of a worker, and what comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


async def _none(*asked: object) -> bytes:
    raise KeyError(asked)


#: Given a digest, and whether the worker has that profile already: the gzipped canonical JSON, or nothing if it has.
#: Raises where the profile is not the caller's to use.
Profiles = Callable[[str, bool], Awaitable[bytes]]
#: Given the id of an allocation: its answer, gzipped JSON. Raises where it is not the caller's to use.
Allocations = Callable[[str], Awaitable[bytes]]
OnProgress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """Work for a worker.

    Attributes:
        name: Key of ``api.workers.tasks.TASKS``.
        owner: Whose it is; owners share the workers fairly.
        body: The body of the request, as it came.
        options: What else the task needs to know.
        profiles: Hands out stored profiles.
        allocations: Hands out stored allocations.
    """

    name: str
    owner: str
    body: bytes = b""
    options: Mapping[str, Any] = field(default_factory=dict)
    profiles: Profiles = _none
    allocations: Allocations = _none


@dataclass(frozen=True)
class Done:
    """What a task gave back.

    Attributes:
        facts: What the service has to know about the answer.
        parts: The answer, ready to send and to store.
    """

    facts: Mapping[str, Any]
    parts: tuple[bytes, ...] = ()
