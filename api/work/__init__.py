"""Work that takes processor time: processes of its own, killed with their children when they overrun."""

from api.work.errors import (
    InvalidJsonError,
    WorkerCrashedError,
    WorkerFailedError,
    WorkerMemoryError,
    WorkerOverrunError,
)
from api.work.task import Done, Task

__all__ = [
    "Done",
    "InvalidJsonError",
    "Task",
    "WorkerCrashedError",
    "WorkerFailedError",
    "WorkerMemoryError",
    "WorkerOverrunError",
]
