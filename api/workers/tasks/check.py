"""Look at a request that will be planned later, so that what is plainly wrong is refused while the client listens."""

from __future__ import annotations

from allocator.solvers import SOLVERS
from api.workers.cache import TaskContext
from api.workers.json_body import parsed
from api.workers.tasks import Answer
from api.workers.tasks.allocate import wanted_profile
from bitalloc.wire import AllocationRequest


def run(context: TaskContext) -> Answer:
    """Parse a request, find its solver and its profile.

    Args:
        context: Its body is an :class:`~bitalloc.wire.AllocationRequest`.

    Returns:
        Nothing.
    """
    asked = parsed(AllocationRequest, context.body, context.limits)
    SOLVERS.find(asked.solver)
    wanted_profile(context, asked)
    return {}, []
