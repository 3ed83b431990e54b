"""The queue: DBOS Transact, on SQLite or PostgreSQL; ``docs/jobs.md`` says why.

DBOS keeps each job as a workflow, hands every queued one to exactly one service, and puts the workflows of a service
that is gone back into the queue. It allows one instance in a process.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from api.settings import Settings
from api.store.retention import BATCH

if TYPE_CHECKING:
    from dbos import DBOSConfig

#: Services with the same number finish each other's jobs; to be raised when a job is kept in another way.
_PROTOCOL = "bitalloc-jobs-1"
_QUEUE = "jobs"
_POLL_S = 0.5
#: A job is begun again as often as services die with it; the jobs' own limits end it.
_ATTEMPTS = 1000
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


class HandedBackError(BaseException):
    """The job goes on elsewhere. Not an ``Exception``: DBOS would take that as the job's own failure."""


class Queue:
    """Jobs by id; each is given to one service at a time until its function returns.

    Args:
        settings: Which database, how many jobs at a time.
        replica: Id of this service.
        run: Does a job, in a thread of its own; raises :class:`HandedBackError` where it has to stop before the end.
    """

    def __init__(self, settings: Settings, replica: str, run: Callable[[str], None]) -> None:
        self._settings = settings
        self._replica = replica
        self._run = run
        self._job: Callable[[str], None] | None = None

    def open(self) -> None:
        """Connect, and begin to take jobs."""
        from dbos import (
            DBOS,
        )  # takes half a second to import, which the start of the service does not wait for

        DBOS(config=_config(self._settings, self._replica))
        log = logging.getLogger("dbos")  # it brings a console of its own; its lines belong into ours
        log.handlers.clear()
        log.propagate = True
        self._job = DBOS.workflow(name="job", max_recovery_attempts=_ATTEMPTS)(_function(self._run))
        DBOS.launch()
        DBOS.register_queue(
            _QUEUE,
            worker_concurrency=self._settings.jobs,
            polling_interval_sec=_POLL_S,
            on_conflict="always_update",
        )

    def start(self, job: str) -> None:
        """Begin a job here and now.

        Args:
            job: Its id.
        """
        from dbos import DBOS, SetWorkflowID

        assert self._job is not None
        with SetWorkflowID(job):
            DBOS.start_workflow(self._job, job)

    def put(self, job: str) -> None:
        """Leave a job to whichever service has time for it.

        Args:
            job: Its id.
        """
        from dbos import DBOS, SetWorkflowID

        assert self._job is not None
        with SetWorkflowID(job):
            DBOS.enqueue_workflow(_QUEUE, self._job, job)

    def cancel(self, job: str) -> None:
        """Take a job out of the queue.

        Args:
            job: Its id.
        """
        from dbos import DBOS

        DBOS.cancel_workflow(job)

    def recover(self, gone: list[str]) -> None:
        """Put the jobs of services that are gone back into the queue; doing so twice is harmless.

        Args:
            gone: Ids of the services.
        """
        from dbos import DBOS

        # The call that DBOS's own control plane makes; the library has no public name for it.
        DBOS._recover_pending_workflows(gone)

    def forget(self, before: float) -> int:
        """Forget jobs that have ended.

        Args:
            before: Those that came before this, in seconds since 1970.

        Returns:
            How many, at most :data:`~api.store.retention.BATCH`.
        """
        from dbos import DBOS

        until = datetime.fromtimestamp(before, UTC).isoformat()
        ended = DBOS.list_workflows(
            status=_ENDED, end_time=until, limit=BATCH, load_input=False, load_output=False
        )
        DBOS.delete_workflows([job.workflow_id for job in ended])
        return len(ended)

    def close(self) -> None:
        """Take no more jobs."""
        from dbos import DBOS

        DBOS.destroy(destroy_registry=True)


def _function(run: Callable[[str], None]) -> Callable[[str], None]:
    # DBOS notes what it needs on the function, which a bound method does not allow.
    def job(identifier: str) -> None:
        run(identifier)

    return job


def _config(settings: Settings, replica: str) -> DBOSConfig:
    from dbos import Serializer

    class Json(Serializer):
        """Nothing in the database is pickled."""

        def serialize(self, data: Any) -> str:  # noqa: ANN401 - whatever DBOS keeps
            return json.dumps(data)

        def deserialize(self, serialized_data: str) -> Any:  # noqa: ANN401 - whatever DBOS keeps
            return json.loads(serialized_data)

        def name(self) -> str:
            return "bitalloc_json"

    url = settings.database_url
    if url is None or url.startswith("sqlite"):
        url = f"sqlite:///{settings.data_dir.expanduser().resolve() / 'queue.db'}"
    return {
        "name": "bitalloc",
        "system_database_url": url,
        "executor_id": replica,
        "application_version": _PROTOCOL,
        "log_level": "ERROR",
        "serializer": Json(),
    }
