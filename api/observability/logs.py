"""Logs as JSON lines: one object per line, with the id of the request it belongs to; never keys, never bodies."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from api.observability.requests import current_request_id


class JsonLines(logging.Formatter):
    """One record as one line.

    A record's own fields come with ``extra={"fields": {...}}``.

    Example:
        >>> line = JsonLines().format(logging.makeLogRecord({"name": "x", "msg": "hello", "levelname": "INFO"}))
        >>> json.loads(line)["message"]
        'hello'
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON without line breaks."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": current_request_id(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to(stream: TextIO = sys.stderr, level: str = "info") -> None:
    """Send this process's log to a stream as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The access log is bitalloc.access, with the route and the request id.
    logging.getLogger("uvicorn.access").disabled = True
