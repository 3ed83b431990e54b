"""What was stored before there were keys is not lost: it is counted, said, and given to one key."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
import pytest

from allocator import InvalidInputError
from api.app import create_app
from api.keys.adopt import adopt, of_nobody
from api.keys.cache import TRUST_S
from api.keys.table import create_key, revoke_key
from api.settings import Settings
from api.store import Store, open_store
from api.store.profiles import profile_body, put_profile
from tests.api.conftest import Run
from tests.api.helpers import problem_of, serving, tiny

PATH = "/v1/allocations"


def test_a_key_gets_what_was_stored_without_one(
    bitalloc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITALLOC_DATA_DIR", str(tmp_path / "data"))
    with serving(create_app(Settings(workers=1))) as url:
        with httpx2.Client(base_url=url, timeout=60) as local:
            profile = local.post("/v1/profiles", json=tiny()).headers["location"]
            plan = local.post(PATH, json={"profile": tiny()}, headers={"idempotency-key": "k"})
        made = bitalloc("keys", "create", "mine")
        assert "1 profiles, 1 allocations were stored without a key, and no key sees them" in made.err
        text = made.out.strip()
        identifier = text.split("_")[1]
        assert f"`bitalloc keys adopt {identifier}`" in made.err
        time.sleep(TRUST_S + 0.1)
        with httpx2.Client(base_url=url, headers={"x-api-key": text}, timeout=60) as mine:
            problem_of(mine.get(profile), 404)
            adopted = bitalloc("keys", "adopt", identifier)
            assert adopted.out == f"key {identifier} now has 1 profiles, 1 allocations\n"
            assert mine.get(profile).status_code == 200
            assert mine.get(plan.headers["location"]).content == plan.content
            again = mine.post(PATH, json={"profile": tiny()}, headers={"idempotency-key": "k"})
            assert again.content == plan.content
        assert "nothing was stored without a key" in bitalloc("keys", "adopt", identifier).out
    assert "stored without a key" not in bitalloc("keys", "create", "another").err


def test_a_profile_that_the_key_has_already_stays(store: Store) -> None:
    key, _ = create_key(store, "mine")
    summary = {"model": "m", "layers": 1, "formats": ["f"], "costs": [], "resources": []}
    put_profile(store, key.id, "a" * 64, summary, 3, b"mine")
    put_profile(store, "local", "a" * 64, summary, 3, b"local")
    put_profile(store, "local", "b" * 64, summary, 3, b"more")
    assert of_nobody(store) == {"profiles": 2}
    assert adopt(store, key.id) == {"profiles": 1}
    assert profile_body(store, key.id, "a" * 64) == b"mine"
    assert of_nobody(store) == {}


def test_only_a_key_that_works_adopts(store: Store) -> None:
    key, _ = create_key(store, "mine")
    revoke_key(store, key.id)
    for identifier in (key.id, "nope"):
        with pytest.raises(InvalidInputError, match=f"no key that works has the id '{identifier}'"):
            adopt(store, identifier)


def test_a_job_that_runs_while_its_data_are_adopted_ends_where_they_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITALLOC_TEST_NOTES", str(tmp_path / "notes"))
    settings = Settings(data_dir=tmp_path, workers=1)
    store = open_store(settings)
    with serving(create_app(settings)) as url:
        with httpx2.Client(base_url=url, timeout=60) as local:
            body = {"profile": tiny(), "solver": "napping"}
            job = local.post(PATH, json=body, headers={"prefer": "respond-async"}).headers["location"]
        key, text = create_key(store, "mine")
        assert adopt(store, key.id) == {"jobs": 1}
        time.sleep(TRUST_S + 0.1)
        with httpx2.Client(base_url=url, headers={"x-api-key": text}, timeout=60) as mine:
            while (now := mine.get(job).json())["ended_at"] is None:
                time.sleep(0.1)
            assert now["state"] == "succeeded"
            assert mine.get(now["allocations"][0]).status_code == 200
    store.close()
