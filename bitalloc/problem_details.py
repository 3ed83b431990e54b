"""The body of every error answer (RFC 9457), as service and client know it."""

from __future__ import annotations

from allocator.contract.schema import Strict


class FieldProblem(Strict):
    """One offending field.

    Attributes:
        pointer: JSON pointer into the request body.
        detail: What was expected, what came, what to do.
    """

    pointer: str
    detail: str


class ProblemDetails(Strict):
    """Body of every error answer (RFC 9457).

    Attributes:
        type: Identifies the kind of problem.
        title: The kind of problem, for people.
        status: HTTP status.
        detail: What happened, in one sentence.
        errors: The offending fields.
        request_id: Names the request in the service's log; also in the header ``X-Request-ID``.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldProblem, ...] = ()
    request_id: str | None = None
