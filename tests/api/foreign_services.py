"""HTTP servers that answer the same whatever they are asked, and a call of the asynchronous client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from allocator import Allocation, solve
from bitalloc.client import AsyncClient
from tests.api.helpers import tiny


@dataclass
class Stranger:
    """An HTTP server that answers the same whatever it is asked, and counts."""

    url: str
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    hung_up: Event = field(default_factory=Event)


@contextmanager
def stranger(
    status: int, content: bytes, content_type: str = "application/json", seconds: float = 0.0
) -> Iterator[Stranger]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open until the client closes them

        def setup(self) -> None:
            super().setup()
            seen.connections += 1

        def finish(self) -> None:
            super().finish()
            seen.hung_up.set()

        def do_POST(self) -> None:
            seen.requests.append(self.rfile.read(int(self.headers["content-length"])))
            stop.wait(seconds)
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    stop = Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen = Stranger(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


def an_allocation() -> bytes:
    """A real answer."""
    return json.dumps(json.loads(solve(tiny()).model_dump_json()) | {"id": "0" * 32}).encode()


async def allocate(url: str, profile: Any, **fields: Any) -> Allocation:
    async with AsyncClient(url) as client:
        return await client.allocate(profile, **fields)
