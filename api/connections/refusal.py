"""Answers to connections that have no request yet, as the bytes that go over the wire."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from http import HTTPStatus

from api.problems.problem import MEDIA_TYPE, details_of


@dataclass(frozen=True)
class Refusal:
    """Why a connection is not served.

    Attributes:
        status: HTTP status.
        kind: Last part of the problem type.
        detail: What happened, and what to do.
        retry_after_s: When to come again; none where that would not help.
    """

    status: HTTPStatus
    kind: str
    detail: str
    retry_after_s: int | None = None

    def response(self) -> bytes:
        """Write the whole answer, after which the connection ends.

        Returns:
            Head and body, a problem document as everywhere.

        Example:
            >>> refusal = Refusal(HTTPStatus.REQUEST_TIMEOUT, "headers-too-slow", "send faster")
            >>> refusal.response().splitlines()[0]
            b'HTTP/1.1 408 Request Timeout'
        """
        request_id = secrets.token_hex(8)
        details = details_of(self.status, self.kind, self.detail)
        body = details.model_copy(update={"request_id": request_id}).model_dump_json().encode()
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            f"X-Request-ID: {request_id}",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
            *([] if self.retry_after_s is None else [f"Retry-After: {self.retry_after_s}"]),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body


TOO_MANY = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too-many-connections",
    "as many connections are open as the service takes, and all of them are at work; try again",
    retry_after_s=1,
)
NO_HTTP = Refusal(HTTPStatus.BAD_REQUEST, "invalid-http", "expected a request in HTTP/1.1")


def too_large(most_bytes: int) -> Refusal:
    """Refuse headers that are too large.

    Args:
        most_bytes: The limit.

    Returns:
        The refusal.
    """
    return Refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers-too-large",
        f"expected at most {most_bytes} bytes of address and headers; what is longer goes into the body",
    )


def too_slow(most_s: float) -> Refusal:
    """Refuse headers that do not arrive.

    Args:
        most_s: The limit.

    Returns:
        The refusal.
    """
    return Refusal(
        HTTPStatus.REQUEST_TIMEOUT,
        "headers-too-slow",
        f"the headers of a request have to arrive within {most_s:g} s",
    )
