"""What a task may raise besides the library's own errors."""

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
