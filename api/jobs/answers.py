"""What a worker planned, as the rows that the database keeps."""

from __future__ import annotations

from api.errors import WorkerFailedError
from api.jobs.runs import Run
from api.problems.failures import problem_of
from api.store import Store
from api.store.allocations import NewAllocation, add_allocations
from api.store.jobs import FAILED, SUCCEEDED, end_job
from api.workers.task import Done

_NAMES = ("id", "profile_sha256", "status", "version")


def stored_rows(done: Done) -> list[NewAllocation]:
    """Make rows of what the task ``allocate`` gave back.

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


def keep_ending(store: Store, run: Run, replica: str) -> None:
    """Keep what became of a job, unless it is no longer this service's.

    Args:
        run: The job, whose solver has ended.

    Raises:
        BaseException: The solver ended in a way that says nothing about the job.
    """
    error = run.future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    done = run.future.result() if error is None else Done({"rows": []})
    problem = None if error is None else problem_of(error).model_dump(mode="json")
    with store.writing() as connection:
        state = SUCCEEDED if error is None else FAILED
        rows = stored_rows(done)
        owner = end_job(connection, run.id, state, replica=replica, problem=problem, plans=len(rows))
        if owner is not None and rows:
            add_allocations(connection, owner, rows)


def keep_failure(store: Store, run: Run, replica: str) -> None:
    """Keep that what became of a job could not be kept."""
    problem = problem_of(WorkerFailedError("the answer of a job could not be kept")).model_dump(mode="json")
    with store.writing() as connection:
        end_job(connection, run.id, FAILED, replica=replica, problem=problem)
