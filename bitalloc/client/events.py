"""Server-sent events of a job.

Source: the WHATWG HTML standard, section 9.2, "Server-sent events".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bitalloc.wire import JobDetails, JobProgress


@dataclass(frozen=True)
class JobEvent:
    """News of a job.

    Attributes:
        number: Rises from event to event.
        progress: How far the solver has come; None at the end.
        ended: The job as it ended; None before.
    """

    number: int
    progress: JobProgress | None = None
    ended: JobDetails | None = None


@dataclass
class Follower:
    """Reads the lines of an event stream, and knows where to go on in the next one.

    Attributes:
        number: Of the last event.
        ended: Whether the last event came.
    """

    number: int = 0
    ended: bool = False
    _lines: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the next connection."""
        return {"last-event-id": str(self.number), "accept": "text/event-stream"}

    def read(self, line: str) -> JobEvent | None:
        """Take in a line.

        Args:
            line: Without its end.

        Returns:
            The event that it completes, if it does.

        Example:
            >>> follower = Follower()
            >>> [follower.read(line) for line in ("event: reconnect", "id: 7", "data: {}", "")]
            [None, None, None, None]
            >>> follower.headers["last-event-id"]
            '7'
        """
        if line:
            name, _, value = line.partition(":")
            self._lines[name] = self._lines.get(name, "") + value.removeprefix(" ")
            return None
        lines, self._lines = self._lines, {}
        if not lines.get("id", "").isdigit():
            return None  # a comment that keeps the connection alive
        self.number = int(lines["id"])
        data: Any = json.loads(lines.get("data") or "{}")
        if lines.get("event") == "incumbent":
            return JobEvent(self.number, progress=JobProgress.model_validate(data))
        if lines.get("event") == "end":
            self.ended = True
            return JobEvent(self.number, ended=JobDetails.model_validate(data))
        return None
