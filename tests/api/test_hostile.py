"""Nothing that is sent breaks the service: never a 500, always a problem, and the next request is served."""

from __future__ import annotations

from collections import Counter

import httpx2
import pytest

from tests.api.helpers import problem_of, tiny
from tests.api.hostile import Hostile, corpus

PATH = "/v1/allocations"
CORPUS = corpus()


def test_there_are_hundreds_and_each_has_a_name() -> None:
    assert len(CORPUS) >= 200
    assert max(Counter(hostile.name for hostile in CORPUS).values()) == 1


@pytest.mark.parametrize("hostile", [pytest.param(hostile, id=hostile.name) for hostile in CORPUS])
def test_the_service_survives(http: httpx2.Client, hostile: Hostile) -> None:
    response = http.post(PATH, content=hostile.body, headers=hostile.headers)
    if hostile.status == 200:
        assert response.status_code == 200, response.text[:500]
    else:
        body = problem_of(response, hostile.status)
        assert body["detail"]
        assert len(response.content) < 200_000
        assert "Traceback" not in response.text
        assert "/api/" not in response.text


def test_afterwards_the_service_is_alive(http: httpx2.Client) -> None:
    assert http.get("/healthz").status_code == 200
    assert http.post(PATH, json={"profile": tiny()}).json()["status"] == "optimal"
