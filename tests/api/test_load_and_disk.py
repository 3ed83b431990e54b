"""Many clients at once, a full disk, many requests: what was accepted is there, and the service goes on."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from api.server import running_server
from tests.api.helpers import problem_of, random_profile, tiny

PATH = "/v1/allocations"
CLIENTS = 200


def stored_ids(client: httpx2.Client, path: str = PATH) -> set[str]:
    """The ids of everything in a list, page by page."""
    found: set[str] = set()
    cursor = None
    while True:
        page = client.get(path, params={"limit": 1000} | ({"cursor": cursor} if cursor else {})).json()
        found |= {item["id"] for item in page["items"]}
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def _crowd(url: str, profile_id: str) -> list[httpx2.Response]:
    limits = httpx2.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=300) as client:
        return await asyncio.gather(
            *(
                client.post(
                    PATH, json={"profile_id": profile_id, "budgets": {"effective_bits": 3 + number / 100}}
                )
                for number in range(CLIENTS)
            )
        )


def test_200_clients_at_once_lose_nothing(http: httpx2.Client, service: str) -> None:
    profile = random_profile(60)
    del profile["costs"]["fisher"]
    profile_id = http.post("/v1/profiles", json=profile).json()["id"]
    before = stored_ids(http)
    answers = asyncio.run(_crowd(service, profile_id))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {200, 202}, statuses
    accepted = {answer.json()["id"] for answer in answers}
    assert len(accepted) == CLIENTS
    deadline = time.monotonic() + 300
    while missing := accepted - stored_ids(http):
        assert time.monotonic() < deadline, f"{len(missing)} of {CLIENTS} are missing"
        time.sleep(0.5)
    assert stored_ids(http) - before == accepted
    assert http.get("/readyz").status_code == 200


Grow = Callable[[], None]


@contextmanager
def _serving(folder: Path, before: str = "") -> Iterator[tuple[str, int]]:
    """A service on a folder, its URL and its process."""
    environment = os.environ | {"BITALLOC_DATA_DIR": str(folder), "BITALLOC_WORKERS": "1"}
    command = [sys.executable, "-c", f"{before}\nfrom api.cli import main; main()", "serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[2], process.pid
        finally:
            process.terminate()


@contextmanager
def _limited_files(folder: Path) -> Iterator[tuple[str, Grow]]:
    """Files may not grow beyond 700 kB, until they may."""
    free = resource.RLIM_INFINITY
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, {free}))"
    with _serving(folder, limit) as (url, pid):
        yield url, lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (free, free)) and None


@contextmanager
def _small_disk(folder: Path) -> Iterator[tuple[str, Grow]]:
    """A file system of 2 MiB, until it has more."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system; the other case limits the size of files")
    more = ["mount", "-o", "remount,size=64m", str(folder)]
    try:
        with _serving(folder) as (url, _):
            yield url, lambda: subprocess.run(more, check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


DISKS = {"files may not grow": (_limited_files, 503), "the disk is full": (_small_disk, 507)}


@pytest.mark.parametrize("name", DISKS)
def test_a_full_disk_is_told_and_what_was_accepted_stays(tmp_path: Path, name: str) -> None:
    disk, status = DISKS[name]
    with disk(tmp_path) as (url, grow), httpx2.Client(base_url=url, timeout=60) as client:
        accepted: set[str] = set()
        answers = (client.post("/v1/profiles", json=random_profile(100, seed=seed)) for seed in range(400))
        for answer in answers:
            if answer.status_code != 201:
                break
            accepted.add(answer.json()["id"])
        problem_of(answer, status)
        assert int(answer.headers["retry-after"]) > 0
        assert accepted
        # The service lives, and still gives out what it has.
        assert client.get("/healthz").status_code == 200
        assert stored_ids(client, "/v1/profiles") == accepted
        grow()
        began = time.monotonic()
        while client.post(PATH, json={"profile": tiny()}).status_code != 200:
            assert time.monotonic() - began < 10
            time.sleep(0.05)
        assert stored_ids(client, "/v1/profiles") == accepted


def test_clients_that_do_not_read_hold_nobody_up(http: httpx2.Client, service: str) -> None:
    profile = random_profile(30_000)  # far more than sockets buffer
    where = http.post("/v1/profiles", json=profile).headers["location"]
    size = len(http.get(where, headers={"accept-encoding": "identity"}).content)
    address = urlsplit(service)
    request = f"GET {where} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((address.hostname, address.port))) for _ in range(40)
        ]
        for client in clients:
            client.sendall(request)
        began = time.monotonic()
        for _ in range(10):
            assert http.post(PATH, json={"profile": tiny()}).status_code == 200
        assert time.monotonic() - began < 10
        # They get all of it once they do.
        clients[0].settimeout(30)
        got = 0
        while part := clients[0].recv(2**20):
            got += len(part)
    assert got > size
    assert http.delete(where).status_code == 204


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.long
def test_memory_is_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITALLOC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BITALLOC_WORKERS", "1")
    with running_server() as url, httpx2.Client(base_url=url, timeout=60) as client:
        profile_id = client.post("/v1/profiles", json=tiny()).json()["id"]
        pid = _server_pid()
        sizes = []
        for round_ in range(4):
            for number in range(1500):
                budgets = {"weight_bytes": 5000 + round_ * 1500 + number}
                client.post(
                    PATH,
                    content=json.dumps({"profile_id": profile_id, "budgets": budgets}),
                    headers={"content-type": "application/json"},
                ).raise_for_status()
            sizes.append(_resident_bytes(pid))
        # The first round fills caches; what comes after costs nothing more.
        assert sizes[-1] - sizes[0] < 8 * 2**20, sizes


def _server_pid() -> int:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return int(children[-1])
