"""Look at a request that will be planned later, so that what is plainly wrong is refused while the client listens."""

from __future__ import annotations

from allocator.solvers import find_solver
from api.workers.cache import Work
from api.workers.parsing import parsed
from api.workers.tasks import Answer
from api.workers.tasks.allocate import wanted_profile
from bitalloc.wire import AllocationRequest


def run(work: Work) -> Answer:
    """Parse a request, find its solver and its profile.

    Args:
        work: Its body is an :class:`~bitalloc.wire.AllocationRequest`.

    Returns:
        Nothing.
    """
    asked = parsed(AllocationRequest, work.body, work.limits)
    find_solver(asked.solver)
    wanted_profile(work, asked)
    return {}, []
