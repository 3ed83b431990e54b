"""What fails in the service although the request is right: workers and the database. Bodies that are no JSON, too."""

from __future__ import annotations

from allocator import BitallocError


class InvalidJsonError(BitallocError, ValueError):
    """A body is not JSON."""


class WorkerFailedError(BitallocError, RuntimeError):
    """A task failed in a way that nobody foresaw; the message is for the operator's log only."""


class WorkerCrashedError(BitallocError, RuntimeError):
    """A worker ended in the middle of its task; whatever it had started is gone with it."""


class WorkerOverrunError(BitallocError, RuntimeError):
    """A task took longer than it may and was killed with everything that it had started."""


class WorkerMemoryError(BitallocError, RuntimeError):
    """A task needed more memory than a worker may take."""


class StoreUnavailableError(BitallocError, RuntimeError):
    """The database does not answer; the same request may succeed later."""


class StoreFullError(BitallocError, RuntimeError):
    """The database has no space left; what it holds is intact."""


class StoreDamagedError(BitallocError, RuntimeError):
    """What the database holds cannot be read; nothing but a person with a copy helps."""


#: What may pass by itself: a service that works for itself waits and tries again.
PASSING = (StoreUnavailableError, StoreFullError)
