"""A load generator that leaves the cores to the service: raw sockets, prepared bytes, no parsing of answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
import uvloop

#: Makes the request number ``n``, head and body.
Requests = Callable[[int], bytes]


@dataclass(frozen=True)
class Measured:
    """What came out.

    Attributes:
        seconds: From the first request to the last answer.
        latencies_s: Of each request; in an open loop from the moment it was due, so that queues count.
        statuses: Answers by status.
    """

    seconds: float
    latencies_s: np.ndarray[Any, np.dtype[np.float64]]
    statuses: dict[int, int]

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies_s) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latencies in milliseconds."""
        return float(np.percentile(self.latencies_s, percent)) * 1e3


def joined(parts: Sequence[Measured]) -> Measured:
    """Return measurements of one kind as one."""
    statuses: Counter[int] = Counter()
    for part in parts:
        statuses.update(part.statuses)
    latencies_s = np.concatenate([part.latencies_s for part in parts])
    return Measured(sum(part.seconds for part in parts), latencies_s, dict(statuses))


def post(url: str, path: str, body: bytes, more: Iterable[str] = ()) -> bytes:
    """Write a request.

    Args:
        url: Base URL of the service.
        path: Path of the route.
        body: JSON.
        more: Further header lines.

    Returns:
        Its bytes.
    """
    lines = [f"POST {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", *more, "", ""]).encode() + body


class _Connection(asyncio.Protocol):
    """One request at a time over one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._expected = -1
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> asyncio.Future[int]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._expected < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            self._expected = end + 4 + int(head.partition(b"content-length:")[2].split(b"\r", 1)[0])
        if len(self._buffer) >= self._expected and self._answer is not None:
            status = int(self._buffer[9:12])
            self._buffer.clear()
            self._expected = -1
            self._answer.set_result(status)

    @property
    def open(self) -> bool:
        return self._transport is not None

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the service closed the connection"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _connected(url: str) -> _Connection:
    where = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(_Connection, where.hostname, where.port)
    return connection


def closed_loop(url: str, requests: Requests, clients: int, count: int) -> Measured:
    """Let clients ask again as soon as they are answered.

    Args:
        url: Base URL of the service.
        requests: Makes the requests.
        clients: Connections.
        count: Requests in all.

    Returns:
        What came out.
    """
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    numbers = iter(range(count))

    async def client(connection: _Connection) -> None:
        for number in numbers:
            request = requests(number)
            began = time.perf_counter()
            status = await connection.ask(request)
            latencies.append(time.perf_counter() - began)
            statuses[status] = statuses.get(status, 0) + 1

    async def run() -> float:
        connections = [await _connected(url) for _ in range(clients)]
        began = time.perf_counter()
        await asyncio.gather(*map(client, connections))
        seconds = time.perf_counter() - began
        for connection in connections:
            connection.close()
        return seconds

    seconds = uvloop.run(run())
    return Measured(seconds, np.array(latencies), statuses)


def open_loop(url: str, requests: Requests, per_second: float, count: int) -> Measured:
    """Ask at fixed times, whether or not earlier requests are answered.

    Args:
        url: Base URL of the service.
        requests: Makes the requests.
        per_second: How often.
        count: Requests in all.

    Returns:
        What came out.
    """
    latencies: list[float] = []
    statuses: dict[int, int] = {}

    async def run() -> float:
        idle = [await _connected(url) for _ in range(32)]

        async def ask(number: int, due: float) -> None:
            while idle and not idle[-1].open:  # the service ends those that nobody used for a while
                idle.pop()
            connection = idle.pop() if idle else await _connected(url)
            status = await connection.ask(requests(number))
            latencies.append(time.perf_counter() - due)
            statuses[status] = statuses.get(status, 0) + 1
            idle.append(connection)

        began = time.perf_counter()
        asked: list[asyncio.Task[None]] = []
        for number in range(count):
            due = began + number / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked.append(asyncio.ensure_future(ask(number, due)))
        await asyncio.gather(*asked)
        seconds = time.perf_counter() - began
        for connection in idle:
            connection.close()
        return seconds

    seconds = uvloop.run(run())
    return Measured(seconds, np.array(latencies), statuses)
