"""Run the service: in this process, or beside it for as long as a block lasts."""

from __future__ import annotations

import os
import queue
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import uvicorn

from allocator import BitallocError
from api.app import create_app

_ANNOUNCED = re.compile(r"serving on (http://\S+)")
_SHUTDOWN_S = 10.0


class ServerError(BitallocError, RuntimeError):
    """The service could not be started."""


def serve(host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        host: Address to bind.
        port: Port to bind; 0 picks a free one.
        announce: Told the line ``serving on http://host:port`` once the port is bound.

    Raises:
        ServerError: The address cannot be bound.
    """
    app = create_app()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ServerError(f"cannot listen on {host}:{port}: {error.strerror}; try --port 0") from error
        listener.listen()  # whoever reads the announcement may connect at once
        name = f"[{host}]" if ":" in host else host
        announce(f"serving on http://{name}:{listener.getsockname()[1]}")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


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
    command = [sys.executable, "-m", "api.cli", "serve", "--port", "0"]
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
