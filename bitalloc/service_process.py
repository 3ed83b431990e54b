"""The service in a process of its own, for as long as a block lasts: for notebooks and trials."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from allocator import BitallocError

_ANNOUNCED = re.compile(r"serving on (http://\S+)")
_SHUTDOWN_S = 20.0


class ServerError(BitallocError, RuntimeError):
    """The service could not be started."""


@contextmanager
def running_server() -> Iterator[str]:
    """Start ``bitalloc serve`` in a process of its own, on a free loopback port.

    Its database lives as long as the block, unless ``BITALLOC_DATA_DIR`` or ``BITALLOC_DATABASE_URL`` says otherwise.

    Yields:
        Its base URL; the process is gone at the end.

    Raises:
        ServerError: The process ended before it was ready.
    """
    with TemporaryDirectory() as folder:
        yield from _running(os.environ | {"BITALLOC_DATA_DIR": os.environ.get("BITALLOC_DATA_DIR", folder)})


def _running(environment: Mapping[str, str]) -> Iterator[str]:
    command = [sys.executable, "-P", "-m", "bitalloc", "serve", "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_drain, args=(process, lines), daemon=True)
    reader.start()
    try:
        yield _announced(lines)
    finally:
        process.terminate()
        try:
            process.wait(timeout=_SHUTDOWN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()


def _drain(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    # A pipe that nobody reads fills up, and then the service stops at its next log line.
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put(None)


def _announced(lines: queue.SimpleQueue[str | None]) -> str:
    seen: list[str] = []
    while (line := lines.get()) is not None:
        seen.append(line)
        if match := _ANNOUNCED.search(line):
            return match[1]
    raise ServerError(f"the service did not start: {''.join(seen).strip() or 'no output'}")
