"""What a worker planned, as the rows that the database keeps."""

from __future__ import annotations

from api.store.allocations import NewAllocation
from api.work.task import Done

_NAMES = ("id", "profile_sha256", "status", "version")


def stored_rows(done: Done) -> list[NewAllocation]:
    """Make rows of what the task ``allocate`` gave back.

    Args:
        done: What it gave back.

    Returns:
        One row for each plan.
    """
    if not done.facts["rows"]:
        return []
    asked, *stored = done.parts[1:]
    return [
        NewAllocation(**{name: facts[name] for name in _NAMES}, request=asked, answer=answer)
        for facts, answer in zip(done.facts["rows"], stored, strict=True)
    ]
