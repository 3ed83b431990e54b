"""Identifiers that sort by the time they were made and cannot be guessed."""

from __future__ import annotations

import secrets
import time


def new_id() -> str:
    """Make an identifier.

    Returns:
        32 hexadecimal digits: the time in nanoseconds, then 64 random bits.

    Example:
        >>> first, second = new_id(), new_id()
        >>> len(first), first[:16] <= second[:16]
        (32, True)
    """
    return f"{time.time_ns():016x}{secrets.token_hex(8)}"


def made_at(identifier: str) -> float:
    """Tell when an identifier was made.

    Args:
        identifier: Made by :func:`new_id`.

    Returns:
        Seconds since 1970.
    """
    return int(identifier[:16], 16) / 1e9


def numbered(first: str, count: int) -> list[str]:
    """Make the ids of a batch from that of its first answer.

    Args:
        first: 32 hexadecimal digits.

    Returns:
        As many ids, rising.

    Example:
        >>> numbered("00ff", 3)
        ['00ff', '0100', '0101']
    """
    return [f"{int(first, 16) + index:0{len(first)}x}" for index in range(count)]
