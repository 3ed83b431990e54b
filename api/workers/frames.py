"""Messages between the service and its workers: a JSON object and raw parts, each with its length before it.

Bodies of requests travel as they came, so that neither side parses or copies more than it must. Nothing is pickled: a
worker that was taken over by a hostile input can tell lies, but not run code in the service.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

_LENGTH = struct.Struct("<I")
Frame = tuple[dict[str, Any], list[bytes]]


def framed(head: Mapping[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """Write a message.

    Args:
        head: What JSON can say.
        parts: Bytes to send along.

    Returns:
        The bytes of the message.
    """
    text = json.dumps([head, [len(part) for part in parts]]).encode()
    return b"".join((_LENGTH.pack(len(text)), text, *parts))


async def receive(stream: asyncio.StreamReader) -> Frame:
    """Read a message without blocking the loop.

    Returns:
        Its head and parts.

    Raises:
        asyncio.IncompleteReadError: The other side is gone.
    """
    (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    head, sizes = json.loads(await stream.readexactly(length))
    return head, [await stream.readexactly(size) for size in sizes]


def read(stream: BinaryIO) -> Frame | None:
    """Return head and parts of the next message, waiting for it; None at the end of the stream."""
    start = stream.read(_LENGTH.size)
    if len(start) < _LENGTH.size:
        return None
    head, sizes = json.loads(stream.read(_LENGTH.unpack(start)[0]))
    return head, [stream.read(size) for size in sizes]
