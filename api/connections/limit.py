"""How many connections are open, which of them have asked for nothing yet, and how many more there may be."""

from __future__ import annotations

import logging
import time
from typing import Protocol

_LOG = logging.getLogger(__name__)
#: File descriptors that are not for connections: the database, pipes to workers, the log, files of the page.
_RESERVED_FILES = 128
#: Connections that are being told so, on top of the limit; what comes beyond is closed without a word.
_MOST_REFUSED = 64
#: While there are too many, that is logged once in so long.
_LOG_EVERY_S = 10.0


class Connection(Protocol):
    """A connection that can be sent away while it has asked for nothing."""

    def evict(self) -> None: ...  # noqa: D102 - says it all


class ConnectionLimit:
    """The connections of one server.

    Where there are as many as there may be, a new connection replaces the one that has been idle for longest. Who opens
    a thousand connections and says nothing so loses them to whoever does ask; only where every connection is at work is
    a new one refused.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.refused = 0
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # in the order in which they fell silent
        self._logged_at = -_LOG_EVERY_S

    def admit(self, connection: Connection) -> bool:
        """Return whether a connection may stay, and count it then."""
        if len(self._open) >= self.most:
            self._log()
            if not self._idle:
                return False
            oldest = next(iter(self._idle))
            self.leave(oldest)
            oldest.evict()
        self._open.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """Count a connection no more; nothing happens to one that is not counted."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def note_idle(self, connection: Connection) -> None:
        """Note that a connection asks for nothing from now on."""
        if connection in self._open:
            self._idle.setdefault(connection)

    def note_request(self, connection: Connection) -> None:
        """Note that a connection has sent a whole head."""
        self._idle.pop(connection, None)

    def may_answer(self) -> bool:
        """Whether one more may be told that there are too many.

        Returns:
            False where it has to be closed at once.
        """
        return self.refused < _MOST_REFUSED

    def _log(self) -> None:
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            silent = len(self._idle)
            _LOG.warning("all %d connections are taken; %d of them have asked for nothing", self.most, silent)


def connections_that_fit(most: int) -> int:
    """Count the connections that fit under this process's limit of open files.

    A process out of file descriptors cannot even accept a connection in order to refuse it, and its event loop drops
    clients without a word (libuv) or stops accepting for a second (asyncio). So that never happens: the limit is known.

    Returns:
        As many as there may be.
    """
    files = open_files_limit()
    fitting = max(files - _RESERVED_FILES - _MOST_REFUSED, files // 4)
    if fitting < most:
        _LOG.warning("%d open files are enough for %d connections, not for %d", files, fitting, most)
    return min(most, fitting)


def open_files_limit() -> int:
    """Return this process's limit of open files; a million where there is none."""
    try:
        import resource
    except ImportError:  # Windows
        return 2**20
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else soft
