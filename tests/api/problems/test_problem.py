"""What a client is told when something breaks, and what it is not told."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from http import HTTPStatus

import httpx2
import pytest

from allocator import Fault, InvalidInputError
from api.app import create_app
from api.problems.failures import response_to
from api.problems.problem import MEDIA_TYPE, ProblemError
from api.settings import Settings
from tests.api.helpers import problem_of, serving, tiny

PATH = "/v1/allocations"


@pytest.fixture(scope="module")
def http_here() -> Iterator[httpx2.Client]:
    """A service in this process, whose log can be read, with a route that fails."""
    app = create_app(Settings())

    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError("the password is swordfish")

    with serving(app) as url, httpx2.Client(base_url=url, timeout=30) as client:
        yield client


def test_a_problem_has_the_members_of_rfc_9457() -> None:
    error = ProblemError(
        HTTPStatus.NOT_FOUND, "no-such-thing", "there is no such thing", [Fault("/a", "why")]
    )
    answer = response_to(error)
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
    answer = response_to(InvalidInputError(*(Fault(f"/{index}", "why") for index in range(count))))
    assert answer.status_code == 422
    assert json.loads(answer.body)["detail"] == f"{words} the request cannot be used"


def test_an_unexpected_error_is_logged_here_and_not_told_there(
    http_here: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "api.problems.failures"):
        response = http_here.post(PATH, json={"profile": tiny(), "solver": "broken"})
    body = problem_of(response, 500)
    assert body["type"] == "urn:bitalloc:problem:internal-error"
    assert body["detail"] == "the service failed; the operator's log has the reason"
    assert body["errors"] == []
    assert "swordfish" not in response.text
    assert "ZeroDivisionError" not in response.text
    (record,) = [record for record in caplog.records if record.name == "api.problems.failures"]
    assert "ZeroDivisionError: the password is swordfish" in record.getMessage()


def test_after_an_unexpected_error_the_next_request_is_served(http_here: httpx2.Client) -> None:
    for _ in range(3):
        problem_of(http_here.post(PATH, json={"profile": tiny(), "solver": "broken"}), 500)
        assert http_here.post(PATH, json={"profile": tiny()}).json()["status"] == "optimal"


def test_an_error_outside_the_workers_is_not_told_either(http_here: httpx2.Client) -> None:
    response = http_here.get("/broken")
    problem_of(response, 500)
    assert "swordfish" not in response.text
    assert "connection" not in response.headers  # it stays open


def test_a_solver_whose_plan_breaks_the_budget_is_a_failure_of_the_service(http_here: httpx2.Client) -> None:
    request = {"profile": tiny(), "solver": "overspending", "budgets": {"weight_bytes": 5000}}
    body = problem_of(http_here.post(PATH, json=request), 500)
    assert "overspending" not in json.dumps(body)


@pytest.mark.parametrize(("solver", "package"), [("cpsat", "ortools"), ("pulp", "pulp")])
@pytest.mark.thorough
def test_a_missing_solver_package_is_named_with_what_to_install(
    without_solvers: str, solver: str, package: str
) -> None:
    response = httpx2.post(without_solvers + PATH, json={"profile": tiny(), "solver": solver}, timeout=30)
    body = problem_of(response, 501)
    assert body["type"] == "urn:bitalloc:problem:missing-package"
    assert body["detail"].startswith(f"{package} is needed here and cannot be imported")
    assert "pip install 'bitalloc[solvers]'" in body["detail"]
