"""Ids of the answers of one request."""

from __future__ import annotations


def numbered(first: str, count: int) -> list[str]:
    """Make the ids of a batch from that of its first answer.

    Args:
        first: 32 hexadecimal digits.
        count: How many.

    Returns:
        As many ids, rising.

    Example:
        >>> numbered("00ff", 3)
        ['00ff', '0100', '0101']
    """
    return [f"{int(first, 16) + index:0{len(first)}x}" for index in range(count)]
