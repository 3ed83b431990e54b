"""`bitalloc --server URL solve`: the same answer, from a service."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

from allocator import Allocation, load_profile
from tests.api.conftest import Run
from tests.api.helpers import comparable


def test_a_service_plans_as_this_process_does(bitalloc: Run, profile: Path, service: str) -> None:
    options = ("solve", profile, "-b", "effective_bits=6.5", "--pin", "down=int4-g64", "--json")
    here, there = bitalloc(*options), bitalloc("--server", service, *options)
    assert (there.code, there.err) == (0, "")
    assert comparable(there.out) == comparable(here.out)
    Allocation.model_validate_json(there.out)
    digest = load_profile(profile).digest()
    assert httpx2.get(f"{service}/v1/profiles/{digest}").status_code == 200


def test_the_service_can_come_from_the_environment(
    bitalloc: Run, profile: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITALLOC_SERVER", service)
    before = len(httpx2.get(f"{service}/v1/allocations?limit=1000").json()["items"])
    assert json.loads(bitalloc("solve", profile, "--json").out)["status"] == "optimal"
    assert len(httpx2.get(f"{service}/v1/allocations?limit=1000").json()["items"]) == before + 1


def test_what_the_service_refuses_is_told_as_always(bitalloc: Run, profile: Path, service: str) -> None:
    end = bitalloc("--server", service, "solve", profile, "-b", "weight=3")
    assert end.code == 2
    assert "unknown budget 'weight'" in end.err


def test_a_service_that_is_not_there_is_told(bitalloc: Run, profile: Path) -> None:
    end = bitalloc("--server", "http://127.0.0.1:9", "solve", profile)
    assert end.code == 2
    assert "the service could not be reached" in end.err
