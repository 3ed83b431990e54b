"""A stream that a key opened ends when the key does."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
import pytest

from api.app import create_app
from api.keys.cache import TRUST_S
from api.keys.table import create_key, revoke_key
from api.settings import Settings
from api.store import open_store
from tests.api.helpers import problem_of, serving, tiny


@pytest.mark.parametrize("end", ["the key is revoked", "the first key is made"])
def test_a_stream_ends_with_the_right_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("BITALLOC_TEST_NOTES", str(tmp_path / "notes"))
    settings = Settings(data_dir=tmp_path / "data", workers=1)
    store = open_store(settings)
    headers = {}
    if end == "the key is revoked":
        key, text = create_key(store, "mine")
        headers = {"x-api-key": text}
    with (
        serving(create_app(settings)) as url,
        httpx2.Client(base_url=url, headers=headers, timeout=60) as http,
    ):
        slow = {"profile": tiny(), "solver": "slow"}
        job = http.post("/v1/allocations", json=slow, headers={"prefer": "respond-async"}).headers["location"]
        with http.stream("GET", f"{job}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines)
            began = time.monotonic()
            if end == "the key is revoked":
                revoke_key(store, key.id)
            else:
                create_key(store, "first")
            last = [line for line in lines if line.startswith("event: ")][-1]
        assert last == "event: reconnect"
        assert time.monotonic() - began < TRUST_S + 5
        problem_of(http.get(f"{job}/events"), 401)
        Path(tmp_path / "notes.end").touch()
    store.close()
