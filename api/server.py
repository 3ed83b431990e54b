"""Run the service in this process; :mod:`bitalloc.service_process` runs it beside one."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import cast

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.connections.guarded import GuardedProtocol
from api.connections.limit import ConnectionLimit, connections_that_fit
from api.keys.table import has_keys
from api.middleware.keys import is_loopback
from api.observability.logs import log_to
from api.settings import Settings, load_settings
from api.store import open_store
from bitalloc.service_process import ServerError, running_server

__all__ = ["ServerError", "running_server", "serve"]

#: Requests that are still open when the service is told to end get so long; event streams would stay for ever.
_FINISH_S = 5


def serve(host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        port: Port to bind; 0 picks a free one.
        announce: Told the line ``serving on http://host:port`` once the port is bound, and who may use it.

    Raises:
        ServerError: The address cannot be bound, or is not this machine's own and there are no API keys.
    """
    before = os.umask(0o077)  # what this process, its workers and their solvers write is its user's alone
    try:
        _serve(host, port, announce)
    finally:
        os.umask(before)


def _serve(host: str, port: int, announce: Callable[[str], None]) -> None:
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
        limit=ConnectionLimit(connections_that_fit(settings.max_connections)),
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
