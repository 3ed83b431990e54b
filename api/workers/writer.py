"""What a worker writes to the service: answers at once, progress of a long search ten times a second at most."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, BinaryIO

from api.workers.frames import framed

#: Progress is passed on so often. Most plans are ready before, and telling of them would take longer than some.
EVERY_MS = 100
#: A solver that tells more often than this between two times loses the oldest.
_MOST_PROGRESS = 1000


class ReplyWriter:
    """The channel to the service, for the thread that works and the one that passes progress on.

    Example:
        >>> import io
        >>> replies = ReplyWriter(io.BytesIO())
        >>> replies.tell({"gap": 0.1})
        >>> replies.channel.getvalue()  # nothing yet
        b''
        >>> replies.pass_on()
        >>> replies.channel.getvalue()[4:]
        b'[{"progress": {"gap": 0.1}}, []]'
    """

    def __init__(self, channel: BinaryIO) -> None:
        self.channel = channel
        self._lock = threading.Lock()
        self._progress: deque[Mapping[str, Any]] = deque(maxlen=_MOST_PROGRESS)

    def send(self, message: bytes) -> None:
        """Write a message at once.

        Args:
            message: From :func:`~api.workers.frames.framed`.
        """
        with self._lock:
            self.channel.write(message)
            self.channel.flush()

    def answer(self, message: bytes) -> None:
        """Write the answer of a task; what it told and is not passed on yet is dropped.

        Args:
            message: From :func:`~api.workers.frames.framed`.
        """
        with self._lock:
            self._progress.clear()
            self.channel.write(message)
            self.channel.flush()

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Note progress."""
        self._progress.append(facts)

    def pass_on(self) -> None:
        """Write the progress since the last time."""
        with self._lock:
            while self._progress:
                self.channel.write(framed({"progress": self._progress.popleft()}))
            self.channel.flush()
