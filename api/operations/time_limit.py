"""One time limit for an answer that takes several solves."""

from __future__ import annotations

from allocator import Request


def sharing(request: Request, parts: int) -> Request:
    """Give each of several solves its share of the time.

    Args:
        request: The request, whose limit is for all of them.
        parts: How many solves.

    Returns:
        The request for one of them.

    Example:
        >>> sharing(Request(time_limit_s=6.0), 4).time_limit_s
        1.5
    """
    if request.time_limit_s is None:
        return request
    return request.model_copy(update={"time_limit_s": request.time_limit_s / parts})
