"""What a client is told when something breaks, and what it is not told."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus

import httpx2
import numpy as np
import pytest

from allocator import Fault
from allocator.problem import Problem
from allocator.solvers import Effort, Outcome, Solver
from allocator.status import Status
from api.app import create_app
from api.problems import MEDIA_TYPE, invalid_input, problem
from api.settings import Settings
from tests.api.helpers import problem_of, serving, tiny

PATH = "/v1/allocations"


@pytest.fixture
def http_here() -> Iterator[httpx2.Client]:
    """A service whose solvers this process can break."""
    with serving(create_app(Settings())) as url, httpx2.Client(base_url=url) as client:
        yield client


def test_a_problem_has_the_members_of_rfc_9457() -> None:
    answer = problem(HTTPStatus.NOT_FOUND, "no-such-thing", "there is no such thing", [Fault("/a", "why")])
    assert answer.status_code == 404
    assert answer.media_type == MEDIA_TYPE
    assert json.loads(answer.body) == {
        "type": "urn:bitalloc:problem:no-such-thing",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no such thing",
        "errors": [{"pointer": "/a", "detail": "why"}],
        "request_id": None,
    }


@pytest.mark.parametrize(("count", "words"), [(1, "1 field of"), (2, "2 fields of")])
def test_invalid_input_counts_its_fields(count: int, words: str) -> None:
    answer = invalid_input(Fault(f"/{index}", "why") for index in range(count))
    assert answer.status_code == 422
    assert json.loads(answer.body)["detail"] == f"{words} the request cannot be used"


def _raise_secret(problem: Problem, effort: Effort) -> Outcome:
    del problem, effort
    raise ZeroDivisionError("the password is swordfish")


def test_an_unexpected_error_is_logged_here_and_not_told_there(
    http_here: httpx2.Client, add_solver: Callable[[str, Solver], None], caplog: pytest.LogCaptureFixture
) -> None:
    add_solver("broken", _raise_secret)
    with caplog.at_level(logging.ERROR, "api.middleware.failures"):
        response = http_here.post(PATH, json={"profile": tiny(), "solver": "broken"})
    body = problem_of(response, 500)
    assert body["type"] == "urn:bitalloc:problem:internal-error"
    assert body["detail"] == "the service failed; the operator's log has the reason under this request_id"
    assert body["errors"] == []
    assert "swordfish" not in response.text
    assert "ZeroDivisionError" not in response.text
    (record,) = [record for record in caplog.records if record.name == "api.middleware.failures"]
    assert record.getMessage() == f"unexpected error in POST {PATH}"
    assert record.exc_info is not None
    assert "swordfish" in str(record.exc_info[1])


def test_after_an_unexpected_error_the_next_request_is_served(
    add_solver: Callable[[str, Solver], None],
) -> None:
    add_solver("broken", _raise_secret)
    with serving(create_app(Settings())) as url:
        for _ in range(3):
            problem_of(httpx2.post(url + PATH, json={"profile": tiny(), "solver": "broken"}), 500)
            assert httpx2.post(url + PATH, json={"profile": tiny()}).json()["status"] == "optimal"


def test_an_unexpected_error_leaves_the_connection_open(
    http_here: httpx2.Client, add_solver: Callable[[str, Solver], None]
) -> None:
    add_solver("broken", _raise_secret)
    response = http_here.post(PATH, json={"profile": tiny(), "solver": "broken"})
    assert response.status_code == 500
    assert "connection" not in response.headers


def _overspend(problem: Problem, effort: Effort) -> Outcome:
    del effort
    return Outcome(Status.OPTIMAL, np.full(problem.units, 1), 0.0)


def test_a_solver_whose_plan_breaks_the_budget_is_a_failure_of_the_service(
    http_here: httpx2.Client, add_solver: Callable[[str, Solver], None]
) -> None:
    add_solver("overspending", _overspend)
    request = {"profile": tiny(), "solver": "overspending", "budgets": {"weight_bytes": 5000}}
    body = problem_of(http_here.post(PATH, json=request), 500)
    assert "overspending" not in json.dumps(body)


@pytest.mark.parametrize(("solver", "package"), [("cpsat", "ortools"), ("pulp", "pulp")])
def test_a_missing_solver_package_is_named_with_what_to_install(
    http_here: httpx2.Client, monkeypatch: pytest.MonkeyPatch, solver: str, package: str
) -> None:
    # None is how Python itself marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, package, None)
    body = problem_of(http_here.post(PATH, json={"profile": tiny(), "solver": solver}), 501)
    assert body["type"] == "urn:bitalloc:problem:missing-package"
    assert body["detail"].startswith(f"{package} is needed here and cannot be imported")
    assert "pip install 'bitalloc[solvers]'" in body["detail"]
