"""Work that takes processor time: processes of its own, killed with their children when they overrun."""

from api.workers.errors import (
    InvalidJsonError,
    WorkerCrashedError,
    WorkerFailedError,
    WorkerMemoryError,
    WorkerOverrunError,
)
from api.workers.task import Done, Task

__all__ = [
    "Done",
    "InvalidJsonError",
    "Task",
    "WorkerCrashedError",
    "WorkerFailedError",
    "WorkerMemoryError",
    "WorkerOverrunError",
]
