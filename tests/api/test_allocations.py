"""`POST /v1/allocations`: the library's answers over HTTP, and the same words for the same faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from allocator import InvalidInputError, Status, solve
from api.app import create_app
from api.settings import Settings
from tests.api.bad_input import Case, params
from tests.api.helpers import comparable, problem_of, random_profile, serving, tiny

PATH = "/v1/allocations"
JSON = {"content-type": "application/json"}

GOOD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing but a profile": (tiny(), {}),
    "effective bits": (tiny(), {"budgets": {"effective_bits": 6.5}}),
    "an amount with a unit": (tiny(), {"budgets": {"weight_bytes": "7 KiB"}}),
    "two budgets on forty layers": (
        random_profile(40),
        {"objective": "kl", "budgets": {"effective_bits": 4.25, "latency": "5 ms"}},
    ),
    "a weighted objective": (
        random_profile(12),
        {"objective": {"kl": 1.0, "fisher": 0.25}, "budgets": {"effective_bits": 5}},
    ),
    "pins, allowed and forbidden formats": (
        random_profile(12),
        {
            "objective": "kl",
            "budgets": {"effective_bits": 5},
            "pin": {"layer.1": "int8-g64"},
            "allow": {"layer.*": ["int4-g64", "int8-g64"]},
            "forbid": {"layer.2": ["int8-g64"]},
        },
    ),
    "a baseline": (
        random_profile(12),
        {"objective": "kl", "solver": "greedy", "budgets": {"latency": 400.0}},
    ),
    "a wide gap": (random_profile(30), {"objective": "kl", "gap": 0.2, "budgets": {"effective_bits": 4.25}}),
    "a resource as the objective": (tiny(), {"objective": "weight_bytes", "budgets": {"kl": 0.02}}),
    "a budget nobody can keep": (tiny(), {"budgets": {"weight_bytes": 100, "kl": 0.02}}),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_service_answers_what_the_library_answers(http: httpx2.Client, name: str) -> None:
    profile, fields = GOOD[name]
    response = http.post(PATH, json={"profile": profile, **fields})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert comparable(response.content) == comparable(solve(profile, **fields))


@pytest.mark.parametrize("case", params("python"))
def test_the_library_points_at_what_it_cannot_use(case: Case) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        solve(case.profile, **case.fields)
    assert [fault.pointer for fault in refusal.value.faults] == [case.pointer]
    assert case.words in refusal.value.faults[0].detail


@pytest.mark.parametrize("case", params("http"))
def test_the_service_points_at_what_it_cannot_use(http: httpx2.Client, case: Case) -> None:
    # json= would refuse NaN and infinity, which clients in other languages do send.
    content = json.dumps({"profile": case.profile, **case.fields})
    body = problem_of(http.post(PATH, content=content, headers=JSON), 422)
    assert body["type"] == "urn:bitalloc:problem:invalid-input"
    assert [error["pointer"] for error in body["errors"]] == [case.pointer_in_request]
    assert case.words in body["errors"][0]["detail"]


def test_every_offending_field_is_named_at_once(http: httpx2.Client) -> None:
    profile = tiny(wieghts=1, costs={"kl": {"values": [[0.1, "x"], [0.1, True]]}})
    body = problem_of(http.post(PATH, json={"profile": profile, "gap": 3, "solver": ""}), 422)
    assert {error["pointer"] for error in body["errors"]} == {
        "/profile/wieghts",
        "/profile/costs/kl/values/0/1",
        "/profile/costs/kl/values/1/1",
        "/gap",
        "/solver",
    }
    assert body["detail"] == "5 fields of the request cannot be used"


def test_a_missing_profile_is_named(http: httpx2.Client) -> None:
    body = problem_of(http.post(PATH, json={"gap": 0.1}), 422)
    assert [error["pointer"] for error in body["errors"]] == ["/profile"]
    assert "profile_id of a stored one, got neither" in body["errors"][0]["detail"]
    assert body["detail"] == "1 field of the request cannot be used"


BROKEN_JSON = {
    "cut off": b'{"profile": ',
    "two documents": b"{} {}",
}


@pytest.mark.parametrize("name", BROKEN_JSON)
def test_broken_json_is_refused_with_the_place_where_it_breaks(http: httpx2.Client, name: str) -> None:
    body = problem_of(http.post(PATH, content=BROKEN_JSON[name], headers=JSON), 400)
    assert body["type"] == "urn:bitalloc:problem:invalid-json"
    assert body["detail"].startswith("JSON breaks at line ")


NO_OBJECT = {
    "nothing": b"",
    "an array": b"[1, 2]",
    "a text": b'"profile"',
    "null": b"null",
}
OTHER_TYPES = {
    "nothing of no type": (b"", {}),
    "an object of no type": (json.dumps({"profile": tiny()}).encode(), {}),
    "an object as plain text": (json.dumps({"profile": tiny()}).encode(), {"content-type": "text/plain"}),
    "a form": (b"profile=tiny", {"content-type": "application/x-www-form-urlencoded"}),
}


@pytest.mark.parametrize("name", NO_OBJECT)
def test_a_body_that_is_no_json_object_is_told_what_is_expected(http: httpx2.Client, name: str) -> None:
    body = problem_of(http.post(PATH, content=NO_OBJECT[name], headers=JSON), 422)
    (error,) = body["errors"]
    assert error == {
        "pointer": "",
        "detail": "expected a JSON object with the fields of the request",
    }


@pytest.mark.parametrize("name", OTHER_TYPES)
def test_a_body_of_another_type_is_told_which_to_send(http: httpx2.Client, name: str) -> None:
    content, headers = OTHER_TYPES[name]
    body = problem_of(http.post(PATH, content=content, headers=headers), 415)
    assert body["detail"] == "send a JSON object with Content-Type: application/json"


def test_a_charset_after_the_content_type_is_fine(http: httpx2.Client) -> None:
    content = json.dumps({"profile": tiny()})
    headers = {"content-type": "application/json; charset=utf-8"}
    assert http.post(PATH, content=content, headers=headers).status_code == 200


def test_a_duplicate_key_is_refused(http: httpx2.Client) -> None:
    twice = json.dumps(tiny(model="first"))[:-1] + ', "model": "last"}'
    body = problem_of(http.post(PATH, content=f'{{"profile": {twice}}}', headers=JSON), 400)
    assert "the key 'model' twice in one object" in body["detail"]


def test_an_infeasible_budget_is_an_answer_with_what_plans_can_reach(http: httpx2.Client) -> None:
    request = {"profile": tiny(), "budgets": {"weight_bytes": 4000, "kl": 0.02}}
    response = http.post(PATH, json=request)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["status"] == "infeasible"
    assert answer["assignment"] is None
    assert answer["achievable"]["weight_bytes"] == {
        "least": 4352,
        "most": 8448,
        "least_with_others": 6400,
        "most_with_others": 8448,
        "nearest_below": None,
        "nearest_above": 6400,
        "bounds": [],
        "limit": 4000,
        "at_least": None,
        "unit": "byte",
    }
    assert answer["achievable"]["kl"]["least_with_others"] is None


@pytest.fixture(scope="module")
def two_seconds_at_most() -> Iterator[httpx2.Client]:
    """A service that allows two seconds."""
    with (
        serving(create_app(Settings(max_time_limit_s=2.0, workers=1))) as url,
        httpx2.Client(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("asked", "limit_ms"), [(None, 2000), (0.75, 750), (2.0, 2000), (3.5, 2000), (1e9, 2000)]
)
def test_the_operator_caps_the_time_limit(
    two_seconds_at_most: httpx2.Client, asked: float | None, limit_ms: int
) -> None:
    request = {"profile": tiny(), "solver": "limited", "time_limit_s": asked}
    answer = two_seconds_at_most.post(PATH, json=request).json()
    assert answer["status"] == Status.OPTIMAL
    # Part of the two seconds may be over before the solver begins.
    assert limit_ms - 500 < answer["solver"]["work"]["limit_ms"] <= limit_ms
