"""Headers of answers, lines of the log and samples of the metrics, for good and for bad requests."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from io import StringIO
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Receive, Scope, Send

from api.app import create_app
from api.middleware.failures import Failures
from api.observability.logs import JsonLines, log_to
from api.observability.metrics import Metrics
from api.observability.requests import Observe
from api.settings import Settings
from tests.api.helpers import problem_of, serving, tiny

PATH = "/v1/allocations"


@pytest.fixture(scope="module")
def here() -> Iterator[httpx2.Client]:
    """A service in this process."""
    with serving(create_app(Settings(workers=1))) as url, httpx2.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """The log of this process, as a service writes it."""
    root, access = logging.getLogger(), logging.getLogger("uvicorn.access")
    handlers, level, disabled = root.handlers[:], root.level, access.disabled
    stream = StringIO()
    log_to(stream)
    yield stream
    root.handlers[:], access.disabled = handlers, disabled
    root.setLevel(level)


def test_a_sane_request_id_comes_back(http: httpx2.Client) -> None:
    response = http.get("/healthz", headers={"x-request-id": "deploy-7.3:a_b"})
    assert response.headers["x-request-id"] == "deploy-7.3:a_b"


@pytest.mark.parametrize("given", ["", "a b", 'x"y', "x" * 65, "ü"])
def test_any_other_request_id_is_replaced(http: httpx2.Client, given: str) -> None:
    response = http.get("/healthz", headers={"x-request-id": given.encode()})
    assert re.fullmatch(r"[0-9a-f]{16}", response.headers["x-request-id"])


def test_every_request_has_its_own_id(http: httpx2.Client) -> None:
    assert len({http.get("/healthz").headers["x-request-id"] for _ in range(50)}) == 50


def test_problems_carry_the_id(http: httpx2.Client) -> None:
    response = http.get("/nowhere", headers={"x-request-id": "mine"})
    assert problem_of(response, 404)["request_id"] == "mine"


@pytest.mark.parametrize("path", ["/healthz", PATH, "/nowhere"])
def test_browsers_are_told_to_be_careful(http: httpx2.Client, path: str) -> None:
    headers = http.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "server" not in headers
    assert headers.get("cache-control") == ("no-store" if path.startswith("/v1") else None)


def test_other_origins_are_not_let_in_by_default(http: httpx2.Client) -> None:
    asked = {"origin": "https://a.example", "access-control-request-method": "POST"}
    assert not any("access-control" in name for name in http.options(PATH, headers=asked).headers)
    assert not any("access-control" in name for name in http.get("/healthz", headers=asked).headers)


def test_listed_origins_are_let_in_and_others_are_not() -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    settings = Settings(cors_origins=("https://a.example",), workers=1)
    with serving(create_app(settings)) as url, httpx2.Client(base_url=url, timeout=30) as client:
        yes = client.options(PATH, headers=asked | {"origin": "https://a.example"})
        assert yes.headers["access-control-allow-origin"] == "https://a.example"
        no = client.options(PATH, headers=asked | {"origin": "https://b.example"})
        assert "access-control-allow-origin" not in no.headers
        # A preflight is no reason to skip the other headers.
        assert yes.headers["x-content-type-options"] == "nosniff"


def test_the_log_has_one_line_per_request_and_no_secrets(here: httpx2.Client, lines: StringIO) -> None:
    secret = {"authorization": "Bearer swordfish", "x-api-key": "swordfish", "x-request-id": "r-1"}
    assert here.post(
        f"{PATH}?q=swordfish", json={"profile": tiny(model="swordfish")}, headers=secret
    ).is_success
    line = _access(lines)
    of_the_service = [line for line in lines.getvalue().splitlines() if '"httpx2"' not in line]
    assert "swordfish" not in "".join(of_the_service)
    assert line["request_id"] == "r-1"
    assert (line["method"], line["path"], line["route"], line["status"]) == ("POST", PATH, PATH, 200)
    assert line["duration_ms"] > 0
    assert line["received_bytes"] > 300
    assert line["sent_bytes"] > 400


def _access(lines: StringIO) -> dict[str, Any]:
    # The line is written after the last byte of the answer, so the client may be faster.
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for line in lines.getvalue().splitlines():
            if '"bitalloc.access"' in line:
                entry: dict[str, Any] = json.loads(line)
                return entry
        time.sleep(0.01)
    raise AssertionError(lines.getvalue())


async def _broken(scope: Scope, receive: Receive, send: Send) -> None:
    del receive
    if scope["path"] == "/begun":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
    if scope["type"] == "http":
        raise ZeroDivisionError("line one\nline two")


def test_what_nobody_expected_is_a_bare_500_and_one_line_with_its_traceback(lines: StringIO) -> None:
    with serving(Observe(Failures(_broken), Metrics())) as url:
        body = problem_of(httpx2.get(url, headers={"x-request-id": "r-2"}), 500)
    assert body["request_id"] == "r-2"
    assert "ZeroDivision" not in json.dumps(body)
    (line,) = [entry for entry in map(json.loads, lines.getvalue().splitlines()) if entry["level"] == "error"]
    assert line["request_id"] == "r-2"
    assert line["message"] == "unexpected error in GET /"
    assert "ZeroDivisionError: line one\nline two" in line["error"]


def test_an_answer_that_breaks_off_is_cut_off(lines: StringIO) -> None:
    del lines
    with (
        serving(Observe(Failures(_broken), Metrics())) as url,
        pytest.raises(httpx2.TransportError, match="peer closed connection"),
    ):
        httpx2.get(f"{url}/begun")


def test_a_line_is_one_line_whatever_is_logged() -> None:
    record = logging.makeLogRecord({"msg": 'a\n"b"\u2028', "levelname": "INFO", "fields": {"x": object()}})
    assert "\n" not in JsonLines().format(record)
    assert json.loads(JsonLines().format(record))["message"] == 'a\n"b"\u2028'


def _samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_by_route_and_status(here: httpx2.Client) -> None:
    before = _samples(here.get("/metrics").text)
    for _ in range(3):
        here.post(PATH, json={"profile": tiny()})
    here.post(PATH, json={})
    here.get("/nowhere/1")
    here.get("/nowhere/2")
    here.request("PROPFIND", PATH)
    samples = {
        name: value - before.get(name, 0) for name, value in _samples(here.get("/metrics").text).items()
    }
    assert samples["bitalloc_requests_total", "POST", PATH, "200"] == 3
    assert samples["bitalloc_requests_total", "POST", PATH, "422"] == 1
    assert samples["bitalloc_requests_total", "GET", "other", "404"] == 2
    assert samples["bitalloc_requests_total", "OTHER", PATH, "405"] == 1
    assert samples["bitalloc_request_seconds_count", "POST", PATH] == 4
    assert samples["bitalloc_request_seconds_sum", "POST", PATH] > 0
    assert samples["bitalloc_solve_seconds_count", "1-100", "exact"] == 3
    assert samples["bitalloc_solve_gap_sum", "1-100", "exact"] == 0


def test_readiness_is_told(http: httpx2.Client) -> None:
    assert http.get("/readyz").json() == {"store": "writable", "queue": "accepting", "workers": "accepting"}


def test_applications_count_apart() -> None:
    Metrics().answered("GET", "/healthz", 200, 0.002)
    assert not any("healthz" in "".join(key) for key in _samples(Metrics().text().decode()))


def test_solves_are_counted_by_solver_and_size() -> None:
    metrics = Metrics()
    metrics.solved("exact", 225, 0.002, 0.0)
    metrics.solved("exact", 300, 0.02, None)
    metrics.solved("highs", 200_000, 3.0, 0.5)
    samples = _samples(metrics.text().decode())
    assert samples["bitalloc_solve_seconds_count", "101-1000", "exact"] == 2
    assert samples["bitalloc_solve_gap_count", "101-1000", "exact"] == 1
    assert samples["bitalloc_solve_gap_bucket", "101-1000", "0.0", "exact"] == 1
    assert samples["bitalloc_solve_seconds_sum", "100001-", "highs"] == 3.0


def test_jobs_are_counted_when_somebody_asks() -> None:
    metrics, jobs = Metrics(), {"queued": 0}
    metrics.watch_jobs(lambda: jobs)
    jobs["queued"] = 7
    assert _samples(metrics.text().decode())["bitalloc_jobs", "queued"] == 7
