"""Run the service: in this process, or beside it for as long as a block lasts."""

from __future__ import annotations

import asyncio
import os
import queue
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import cast

import uvicorn
from fastapi import FastAPI

from allocator import BitallocError
from api.app import create_app
from api.connections.crowd import Crowd, places
from api.connections.guarded import GuardedProtocol
from api.keys.table import has_keys
from api.middleware.keys import is_loopback
from api.observability.logs import log_to
from api.settings import Settings, load_settings
from api.store import open_store

_ANNOUNCED = re.compile(r"serving on (http://\S+)")
_SHUTDOWN_S = 20.0
#: Requests that are still open when the service is told to end get so long; event streams would stay for ever.
_FINISH_S = 5


class ServerError(BitallocError, RuntimeError):
    """The service could not be started."""


def serve(host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        host: Address to bind.
        port: Port to bind; 0 picks a free one.
        announce: Told the line ``serving on http://host:port`` once the port is bound, and who may use it.

    Raises:
        ServerError: The address cannot be bound, or is not this machine's own and there are no API keys.
    """
    os.umask(0o077)  # what this process, its workers and their solvers write is its user's alone
    settings = load_settings()
    guarded = _is_guarded(settings)
    if not guarded and not is_loopback(host):
        raise ServerError(
            f"without API keys the service listens on this machine only, not on {host}; make a key with "
            "`bitalloc keys create NAME` and start it again, or leave --host out"
        )
    log_to(level=settings.log_level)
    app = create_app(settings)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ServerError(f"cannot listen on {host}:{port}: {error.strerror}; try --port 0") from error
        listener.listen()  # whoever reads the announcement may connect at once
        name = f"[{host}]" if ":" in host else host
        note = "" if guarded else " (no API keys: open to everybody on this machine and to nobody else)"
        announce(f"serving on http://{name}:{listener.getsockname()[1]}{note}")
        uvicorn.Server(_config(app, settings)).run(sockets=[listener])


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    guarded = partial(
        GuardedProtocol,
        crowd=Crowd(places(settings.max_connections)),
        max_header_bytes=settings.max_header_bytes,
        header_timeout_s=settings.header_timeout_s,
    )
    return uvicorn.Config(
        app,
        http=cast(
            type[asyncio.Protocol], guarded
        ),  # called like the class, which is all that uvicorn does with it
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_FINISH_S,
    )


def _is_guarded(settings: Settings) -> bool:
    store = open_store(settings)
    try:
        return has_keys(store)
    finally:
        store.close()


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
