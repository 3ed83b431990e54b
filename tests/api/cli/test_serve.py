"""`bitalloc serve` in a process of its own: announced, answering, and gone when told to."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2
import pytest

from allocator import solve
from tests.api.conftest import Run
from tests.api.helpers import comparable, tiny


@contextmanager
def _serve(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the first line it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


def _url(line: str) -> str:
    announced = re.fullmatch(r"serving on (http://\S+) \(no API keys: .*\)\n", line)
    assert announced, line
    return announced[1]


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_url_answers_and_ends_when_told_to(told: signal.Signals) -> None:
    with _serve("--port", "0") as (process, line):
        url = _url(line)
        answer = httpx2.post(f"{url}/v1/allocations", json={"profile": tiny()})
        assert comparable(answer.content) == comparable(solve(tiny()))
        assert process.stdout is not None
        assert "/docs" in process.stdout.readline()
        process.send_signal(told)
        out, err = process.communicate(timeout=10)
        # 0, or what a shell makes of a signal that was handled or passed on.
        assert process.returncode in {0, -told, 128 + told}
        assert out == ""
        assert {json.loads(entry)["level"] for entry in err.splitlines()} == {"info"}
        with pytest.raises(httpx2.ConnectError, match="refused"):
            httpx2.get(f"{url}/healthz")


def test_the_port_can_be_used_again_at_once() -> None:
    with _serve("--port", "0") as (process, line):
        url = _url(line)
        with httpx2.Client() as client:
            assert client.get(f"{url}/healthz").status_code == 200
            # The service hangs up first, so its end of the connection lingers on the port.
            process.terminate()
            process.wait(timeout=10)
    port = urlsplit(url).port
    with _serve("--port", str(port)) as (_, line):
        assert _url(line) == url
        assert httpx2.get(f"{url}/healthz").status_code == 200


def test_an_ipv6_address_is_announced_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with _serve("--host", "::1", "--port", "0") as (_, line):
        assert _url(line).startswith("http://[::1]:")
        assert httpx2.get(f"{_url(line)}/healthz").status_code == 200


def test_a_port_in_use_ends_with_2_and_says_what_to_do(bitalloc: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = bitalloc("serve", "--port", port)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: cannot listen on 127.0.0.1:{port}: Address already in use; try --port 0\n"


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_ends_with_2(bitalloc: Run, port: str) -> None:
    done = bitalloc("serve", "--port", port)
    assert (done.code, done.out) == (2, "")
    assert "Invalid value for '--port'" in done.err


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_a_missing_package_ends_with_2_and_says_what_to_install(
    bitalloc: Run, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = bitalloc("serve", "--port", "0")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {package} is needed here and cannot be imported")
    assert done.err.endswith("install it with: pip install 'bitalloc[service]'\n")


@pytest.mark.parametrize(
    ("name", "value"), [("BITALLOC_MAX_BODY_BYTES", "64 MiB"), ("BITALLOC_MAX_TIME_LIMIT_S", "0")]
)
def test_a_setting_that_cannot_be_used_ends_with_2_and_names_the_variable(name: str, value: str) -> None:
    with _serve("--port", "0", **{name: value}) as (process, line):
        _, err = process.communicate(timeout=20)
        assert line == ""
        assert process.returncode == 2
        assert err.startswith("error: ")
        assert name in err
        assert "Traceback" not in err
