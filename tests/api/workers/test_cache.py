"""What a worker keeps changes how fast it answers, not what."""

from __future__ import annotations

from typing import Any

import pytest

from allocator import InvalidInputError, load_profile, make_request, solve_request
from api.workers.cache import ProfileCache
from tests.api.helpers import comparable, random_profile

PROFILE = load_profile(random_profile(60))
REQUESTS: list[dict[str, Any]] = [
    {"objective": "kl", "budgets": {"effective_bits": bits, "latency": latency}, "gap": gap}
    for bits, latency, gap in ((4, "6 ms", 0.0), (5.5, 7000, 0.0), (3, "9 ms", 0.1), (2.5, 10, 0.0))
] + [
    {"objective": "kl", "budgets": {"effective_bits": 4.5}},
    {"objective": "kl", "budgets": {"effective_bits": 3.5}, "pin": {"layer.3": "int8-g64"}},
    {"objective": "fisher", "budgets": {"weight_bytes": "1 MB"}},
    {"objective": "kl", "budgets": {"weight_bytes": 1_100_000}, "solver": "greedy"},
    {"objective": ["kl", "weight_bytes"], "budgets": {"latency": 7000}},
    {"objective": "weight_bytes", "budgets": {"kl": 0.9}},
]


def _without_work(answer: object) -> dict[str, Any]:
    plain = comparable(answer)  # type: ignore[arg-type]
    del plain["solver"]["work"]  # the hull is there already, so there is less to count
    return plain


def test_answers_are_those_of_a_worker_that_keeps_nothing() -> None:
    profiles = ProfileCache()
    profiles.keep("id", PROFILE)
    for fields in REQUESTS * 2:
        request = make_request(fields)
        assert _without_work(profiles.solve("id", request)) == _without_work(solve_request(PROFILE, request))


def test_progress_is_told_as_well() -> None:
    profiles, heard = ProfileCache(), []
    profiles.keep("id", PROFILE)
    for _ in range(2):
        heard.clear()
        profiles.solve("id", make_request(REQUESTS[0]), heard.append)
        assert heard


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"objective": "kl", "budgets": {"effective_bits": 0}}, "/budgets/effective_bits"),
        ({"objective": "kll"}, "/objective"),
        ({"objective": "kl", "solver": "exakt"}, "/solver"),
        ({"objective": "kl", "budgets": {"bytes": 3}}, "/budgets/bytes"),
    ],
)
def test_faults_point_where_they_do_otherwise(fields: dict[str, Any], where: str) -> None:
    profiles = ProfileCache()
    profiles.keep("id", PROFILE)
    profiles.solve("id", make_request({"objective": "kl", "budgets": {"effective_bits": 4.5}}))
    for _ in range(2):
        with pytest.raises(InvalidInputError) as refusal:
            profiles.solve("id", make_request(fields))
        assert [fault.pointer for fault in refusal.value.faults] == [where]


def test_the_least_recently_used_profile_goes_first() -> None:
    profiles = ProfileCache(most_entries=1)
    profiles.keep("a", PROFILE)
    profiles.keep("b", PROFILE)
    assert profiles.find("a") is None
    assert profiles.find("b") is PROFILE


def test_many_kinds_of_requests_do_not_pile_up() -> None:
    profiles = ProfileCache()
    profiles.keep("id", PROFILE)
    for pinned in range(20):
        profiles.solve("id", make_request({"objective": "kl", "pin": {f"layer.{pinned}": "int8-g64"}}))
    assert len(profiles._profiles["id"].planners) == 4
