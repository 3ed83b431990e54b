"""Look at a request that will be planned later, so that what is plainly wrong is refused while the client listens."""

from __future__ import annotations

from allocator.solvers import find_solver
from api.workers.cache import Work
from api.workers.recognise import parsed_about_profile
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
    asked = parsed_about_profile(AllocationRequest, work)
    find_solver(asked.solver)
    wanted_profile(work, asked)
    return {}, []
