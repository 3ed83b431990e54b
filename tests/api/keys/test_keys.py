"""Keys: drawn, kept as digests, compared, listed, revoked; from Python and from the command."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path

import httpx2
import pytest

from allocator import InvalidInputError
from api.app import create_app
from api.keys.cache import TRUST_S
from api.keys.key import digest_of, identifier_of, matches, new_secret
from api.keys.table import create_key, find_key, has_keys, list_keys, revoke_key
from api.server import ServerError, serve
from api.settings import Settings
from api.store import Store, open_store
from tests.api.conftest import Run
from tests.api.helpers import Guarded, problem_of, serving, tiny

PATH = "/v1/allocations"


def test_a_key_has_256_random_bits() -> None:
    texts = {new_secret()[1] for _ in range(100)}
    assert len(texts) == 100
    for text in texts:
        assert re.fullmatch(r"bitalloc_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", text)


@pytest.mark.parametrize("text", ["", "bitalloc_", "bitalloc_0_x", "x" * 10_000, "bitalloc_" + "é" * 56])
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert identifier_of(text) is None


def test_only_the_digest_is_kept(store: Store, tmp_path: Path) -> None:
    key, text = create_key(store, "mine", 5, 1000)
    assert key.digest == digest_of(text)
    assert find_key(store, key.id) == key
    store.close()
    rows = sqlite3.connect(tmp_path / "bitalloc.db").execute("SELECT * FROM api_keys").fetchall()
    assert text.rpartition("_")[2] not in repr(rows)


def test_a_key_matches_itself_and_nothing_else(store: Store) -> None:
    key, text = create_key(store, "mine")
    assert matches(key, text)
    assert not matches(key, text[:-1] + ("A" if text[-1] != "A" else "B"))
    assert not matches(None, text)
    assert not matches(revoke_key(store, key.id), text)


def test_the_last_revocation_does_not_open_the_service(store: Store) -> None:
    assert not has_keys(store)
    key, _ = create_key(store, "mine")
    revoke_key(store, key.id)
    assert has_keys(store)


def test_keys_are_listed_in_order_and_revoked_once(store: Store) -> None:
    ids = [create_key(store, name)[0].id for name in "abc"]
    first = revoke_key(store, ids[1]).revoked
    assert revoke_key(store, ids[1]).revoked == first
    assert {key.id: key.revoked for key in list_keys(store)} == {ids[0]: None, ids[1]: first, ids[2]: None}
    with pytest.raises(InvalidInputError, match="no key has the id 'nope'; `bitalloc keys list` shows them"):
        revoke_key(store, "nope")


def test_the_command_makes_lists_and_revokes(
    bitalloc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITALLOC_DATA_DIR", str(tmp_path / "data"))
    assert "no keys: the service is open to this machine" in bitalloc("keys", "list").out
    made = bitalloc("keys", "create", "[red]", "--requests-per-minute", 60, "--max-body-bytes", 4096)
    text = made.out.strip()
    identifier = identifier_of(text)
    assert identifier is not None
    assert "shown this once" in made.err
    listed = bitalloc("keys", "list").out
    for part in (identifier, "[red]", "60", "4096"):
        assert part in listed
    assert text.rpartition("_")[2] not in listed
    assert f"key {identifier} ([red]) is revoked since " in bitalloc("keys", "revoke", identifier).out
    refused = bitalloc("keys", "revoke", "nope")
    assert refused.code == 2
    assert "no key has the id 'nope'" in refused.err


def test_a_good_key_plans_in_either_header(guarded: Guarded) -> None:
    for headers in (
        {"authorization": f"Bearer {guarded.mine}"},
        {"authorization": f"bearer  {guarded.mine}"},
        {"x-api-key": guarded.mine},
    ):
        response = httpx2.post(guarded.url + PATH, json={"profile": tiny()}, headers=headers, timeout=60)
        assert response.status_code == 200, response.text


BAD = {
    "nothing": {},
    "rubbish": {"authorization": "Bearer swordfish"},
    "another scheme": {"authorization": "Basic {mine}"},
    "a key in the wrong place": {"cookie": "key={mine}"},
    "a revoked key": {"authorization": "Bearer {revoked}"},
    "a good id with another secret": {"x-api-key": "{forged}"},
}


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_refused(guarded: Guarded, name: str) -> None:
    forged = guarded.mine[:-3] + ("AAA" if guarded.mine[-3:] != "AAA" else "BBB")
    headers = {
        header: value.format(mine=guarded.mine, revoked=guarded.revoked, forged=forged)
        for header, value in BAD[name].items()
    }
    response = httpx2.post(guarded.url + PATH, json={"profile": tiny()}, headers=headers)
    body = problem_of(response, 401)
    assert body["type"] == "urn:bitalloc:problem:key-needed"
    assert response.headers["www-authenticate"] == "Bearer"
    assert guarded.mine not in response.text


def test_a_key_in_the_address_is_no_key(guarded: Guarded) -> None:
    problem_of(httpx2.post(f"{guarded.url}{PATH}?api_key={guarded.mine}", json={"profile": tiny()}), 401)


def test_a_body_is_not_read_before_its_key(guarded: Guarded) -> None:
    # Far more than the limit, and still 401 rather than 413.
    assert httpx2.post(guarded.url + PATH, content=bytes(2**26 + 1)).status_code == 401


def test_a_revoked_key_is_refused_by_a_running_service(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, workers=1)
    store = open_store(settings)
    with serving(create_app(settings)) as url:
        assert httpx2.get(f"{url}{PATH}").status_code == 200  # no keys yet
        key, text = create_key(store, "mine")
        time.sleep(TRUST_S + 0.1)
        headers = {"x-api-key": text}
        assert httpx2.get(f"{url}{PATH}").status_code == 401
        assert httpx2.get(f"{url}{PATH}", headers=headers).status_code == 200
        revoke_key(store, key.id)
        time.sleep(TRUST_S + 0.1)
        assert httpx2.get(f"{url}{PATH}", headers=headers).status_code == 401
    store.close()


def test_a_key_has_limits_of_its_own(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, workers=1, max_requests_per_minute=5)
    store = open_store(settings)
    keys = {
        name: create_key(store, name, rate, size)[1]
        for name, rate, size in (
            ("plain", None, None),
            ("slow", 2, None),
            ("small", None, 100),
        )
    }
    with serving(create_app(settings)) as url:

        def codes(name: str, count: int) -> list[int]:
            headers = {"x-api-key": keys[name]}
            return [httpx2.get(f"{url}{PATH}", headers=headers).status_code for _ in range(count)]

        assert codes("slow", 4) == [200, 200, 429, 429]
        assert codes("plain", 6) == [200] * 5 + [429]
        response = httpx2.get(f"{url}{PATH}", headers={"x-api-key": keys["slow"]})
        assert "2 requests per minute; try again in" in problem_of(response, 429)["detail"]
        assert 1 <= int(response.headers["retry-after"]) <= 60
        headers = {"x-api-key": keys["small"]}
        body = problem_of(httpx2.post(url + PATH, json={"profile": tiny()}, headers=headers), 413)
        assert body["detail"] == "the body is larger than the limit of 100 bytes"
        assert httpx2.get(f"{url}/healthz").status_code == 200
    store.close()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "10.0.0.1:8000", "localhost.evil.example", ""]
)
def test_without_keys_other_names_than_this_machines_are_refused(http: httpx2.Client, host: str) -> None:
    body = problem_of(http.get(PATH, headers={"host": host}), 403)
    assert body["type"] == "urn:bitalloc:problem:local-only"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "127.1.2.3"])
def test_names_of_this_machine_are_served(http: httpx2.Client, host: str) -> None:
    assert http.get(PATH, headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_without_keys_other_addresses_are_not_bound(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITALLOC_DATA_DIR", str(tmp_path))
    with pytest.raises(
        ServerError, match=r"listens on this machine only, not on .* `bitalloc keys create NAME`"
    ):
        serve(host, 0, print)
