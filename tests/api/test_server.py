"""The service in a process: it starts, says where, and is gone afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx2
import pytest

from api.keys.table import create_key
from api.server import ServerError, running_server, serve
from api.settings import load_settings
from api.store import open_store


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_in_use_is_refused_with_what_to_do(taken: int) -> None:
    announced: list[str] = []
    with pytest.raises(
        ServerError, match=rf"cannot listen on 127\.0\.0\.1:{taken}: Address already in use; try --port 0"
    ):
        serve("127.0.0.1", taken, announced.append)
    assert announced == []


def test_an_address_of_another_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITALLOC_DATA_DIR", str(tmp_path))
    store = open_store(load_settings())
    create_key(store, "somebody")  # without keys, no other address than this machine's own would be tried
    store.close()
    # 192.0.2.0/24 is reserved for documentation (RFC 5737), so no machine has it.
    with pytest.raises(ServerError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign"):
        serve("192.0.2.1", 0, print)


def test_an_ipv6_address_in_use_is_named_as_one() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServerError, match=rf"cannot listen on ::1:{port}: Address already in use"):
            serve("::1", port, print)


def test_the_process_is_ready_inside_the_block_beside_others_and_gone_after_it(service: str) -> None:
    with running_server() as url:
        assert urlsplit(url).hostname == "127.0.0.1"
        assert urlsplit(url).port != urlsplit(service).port
        assert httpx2.get(f"{service}/healthz").json() == httpx2.get(f"{url}/healthz").json()
    with pytest.raises(httpx2.ConnectError, match="refused"):
        httpx2.get(f"{url}/healthz")


def test_a_process_that_does_not_start_is_reported_with_what_it_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError('no uvicorn today')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}")
    with (
        pytest.raises(ServerError, match=r"did not start: error: uvicorn is needed here .*no uvicorn today"),
        running_server(),
    ):
        pytest.fail("the block ran without a server")


def test_a_process_that_says_nothing_is_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(ServerError, match="did not start: no output"), running_server():
        pytest.fail("the block ran without a server")


def test_a_process_that_cannot_read_its_settings_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITALLOC_MAX_BODY_BYTES", "64 MiB")
    with pytest.raises(ServerError, match=r"did not start: .*(?i:max_body_bytes)"), running_server():
        pytest.fail("the block ran without a server")


class _Process(subprocess.Popen[str]):
    """A real process that a test can get hold of, and that is not waited for as long."""

    started: ClassVar[list[_Process]] = []

    def __init__(self, command: list[str], **options: Any) -> None:
        super().__init__(command, **options)
        self.started.append(self)

    def wait(self, timeout: float | None = None) -> int:
        return super().wait(None if timeout is None else min(timeout, 1.0))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[_Process]]:
    """The processes that `running_server` starts; all of them are gone in the end."""
    monkeypatch.setattr(subprocess, "Popen", _Process)
    monkeypatch.setattr(_Process, "started", [])
    yield _Process.started
    for process in _Process.started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/healthz", timeout=2).is_success
    except httpx2.TimeoutException:
        return False


def test_a_process_with_a_lot_to_say_keeps_answering(started: list[_Process]) -> None:
    with running_server() as url:
        address = urlsplit(url)
        for _ in range(700):
            with socket.create_connection((address.hostname, address.port), timeout=1) as stranger:
                stranger.sendall(b"nonsense\r\n\r\n")
                try:
                    stranger.recv(100)
                except TimeoutError:
                    break
        answered = _answers(url)
        started[0].kill()
    assert answered


def _stop_and_raise(process: _Process) -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    raise ZeroDivisionError("mine")


def test_a_process_that_does_not_listen_is_gone_after_an_error_too(started: list[_Process]) -> None:
    with pytest.raises(ZeroDivisionError, match="mine"), running_server():
        _stop_and_raise(started[0])
    assert started[0].poll() is not None
