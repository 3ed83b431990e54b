"""Jobs as clients see them."""

from __future__ import annotations

from typing import Any

from api.store.ids import made_at
from api.store.jobs import StoredJob
from api.workers.numbering import numbered
from bitalloc.problem_details import ProblemDetails
from bitalloc.wire import JobDetails, JobProgress


def job_details(job: StoredJob) -> JobDetails:
    """Show a job.

    Args:
        job: As it is stored.

    Returns:
        As it is shown.
    """
    progress: Any = job.progress
    return JobDetails(
        id=job.id,
        state=job.state,
        created_at=made_at(job.id),
        started_at=job.started_at,
        ended_at=job.ended_at,
        progress=None if progress is None else JobProgress.model_validate(progress),
        allocations=tuple(f"/v1/allocations/{each}" for each in numbered(job.id, job.plans)),
        problem=None if job.problem is None else ProblemDetails.model_validate(job.problem),
    )
