"""Errors of a task on their way from a worker to the service: by name, with what the client or the log is told."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from allocator import Fault, InvalidInputError, MissingPackageError
from api.errors import InvalidJsonError, WorkerFailedError, WorkerMemoryError


class RefusedError(Exception):
    """The service would not hand out what it has stored; it knows why."""


#: What a worker raises → its name on the way → what the service raises.
_ERRORS: tuple[tuple[type[Exception], str, type[Exception]], ...] = (
    (MissingPackageError, "package", MissingPackageError),
    (InvalidJsonError, "json", InvalidJsonError),
    (MemoryError, "memory", WorkerMemoryError),
    (RefusedError, "refused", WorkerFailedError),
    (Exception, "unexpected", WorkerFailedError),  # whatever a solver raises is for the operator's log
)


def failure(error: Exception) -> dict[str, Any]:
    """Return what the worker sends of an error."""
    if isinstance(error, InvalidInputError):
        return {"failed": "input", "faults": [[fault.pointer, fault.detail] for fault in error.faults]}
    name = next(name for raised, name, _ in _ERRORS if isinstance(error, raised))
    detail = "".join(traceback.format_exception(error)) if name == "unexpected" else str(error)
    if name == "memory":
        detail = "a task needed more memory than a worker may take"
    return {"failed": name, "detail": detail}


def error_of(head: Mapping[str, Any]) -> Exception:
    """Return what the service raises for what a worker sent."""
    if head["failed"] == "input":
        return InvalidInputError(*(Fault(*fault) for fault in head["faults"]))
    return next(kind for _, name, kind in _ERRORS if name == head["failed"])(head["detail"])
