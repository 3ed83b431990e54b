"""An error of a task reaches the client as the problem that the table has for it."""

from __future__ import annotations

import pytest

from allocator import BitallocError, Fault, InvalidInputError, MissingPackageError
from api import errors
from api.problems.failures import PROBLEMS, problem_of
from api.workers.failure import RefusedError, error_of, failure


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (
            InvalidInputError(Fault("/a", "why"), Fault("/b", "why")),
            "invalid-input",
            "2 fields of the request",
        ),
        (InvalidInputError(), "invalid-input", "0 fields of the request"),
        (MissingPackageError("install it"), "missing-package", "install it"),
        (errors.InvalidJsonError("breaks at 3"), "invalid-json", "breaks at 3"),
        (MemoryError(), "solver-out-of-memory", "the solver needed more memory"),
        (RefusedError(), "internal-error", "the service failed"),
        (ZeroDivisionError("swordfish"), "internal-error", "the service failed"),
    ],
)
def test_errors_of_a_worker_become_the_problems_of_the_table(
    error: Exception, kind: str, detail: str
) -> None:
    found = problem_of(error_of(failure(error)))
    assert found.type == f"urn:bitalloc:problem:{kind}"
    assert found.detail.startswith(detail)
    assert [field.pointer for field in found.errors] == [
        fault.pointer for fault in getattr(error, "faults", ())
    ]


def test_the_log_is_told_where_a_solver_failed() -> None:
    try:
        raise ZeroDivisionError("swordfish")
    except ZeroDivisionError as error:
        told = failure(error)
    assert "test_failure.py" in told["detail"]
    assert "swordfish" in told["detail"]


def test_every_error_of_the_service_is_in_the_table() -> None:
    own = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert own - {BitallocError} == PROBLEMS.keys() - {InvalidInputError, MissingPackageError}
