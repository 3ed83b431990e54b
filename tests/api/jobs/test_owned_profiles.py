"""Whose a profile is, is asked of the database once in a while, and after every deletion."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.jobs import stored
from api.jobs.stored import OwnedProfiles
from api.problems.problem import ProblemError
from api.settings import Settings
from api.store import Store, open_store
from api.store.profiles import delete_profile, put_profile

SHA = "a" * 64
SUMMARY = {"model": "", "layers": 1, "formats": ["f"], "costs": ["c"], "resources": []}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with one profile of ``me``."""
    opened = open_store(Settings(data_dir=tmp_path))
    put_profile(opened, "me", SHA, SUMMARY, 3, b"gzipped")
    yield opened
    opened.close()


def given(owned: OwnedProfiles, owner: str, *, known: bool) -> bytes:
    return asyncio.run(owned.of(owner)(SHA, known))  # type: ignore[arg-type]


def test_hands_out_bodies_and_leaves_out_those_that_the_worker_has(store: Store) -> None:
    owned = OwnedProfiles(store)
    assert given(owned, "me", known=False) == b"gzipped"
    assert given(owned, "me", known=True) == b""
    assert given(owned, "me", known=False) == b"gzipped"


@pytest.mark.parametrize("known", [False, True])
def test_others_get_nothing_even_of_what_is_remembered(store: Store, known: bool) -> None:
    owned = OwnedProfiles(store)
    assert given(owned, "me", known=True) == b""
    for _ in range(2):
        with pytest.raises(ProblemError, match="there is no profile"):
            given(owned, "other", known=known)


def test_asks_again_after_a_deletion_here(store: Store) -> None:
    owned = OwnedProfiles(store)
    given(owned, "me", known=True)
    delete_profile(store, "me", SHA)
    assert given(owned, "me", known=True) == b""  # remembered, as of a deletion elsewhere
    owned.forget("me", SHA)
    with pytest.raises(ProblemError, match="there is no profile"):
        given(owned, "me", known=True)


def test_asks_again_after_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_REMEMBERED_S", 0.0)
    owned = OwnedProfiles(store)
    given(owned, "me", known=True)
    delete_profile(store, "me", SHA)
    with pytest.raises(ProblemError, match="there is no profile"):
        given(owned, "me", known=True)


def test_what_is_deleted_while_the_database_is_asked_is_not_remembered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = OwnedProfiles(store)
    asked = stored.has_profile

    def slow(*args: object) -> bool:
        found = asked(*args)  # type: ignore[arg-type]
        delete_profile(store, "me", SHA)
        owned.forget("me", SHA)
        return found

    monkeypatch.setattr(stored, "has_profile", slow)
    assert given(owned, "me", known=True) == b""
    with pytest.raises(ProblemError, match="there is no profile"):
        given(owned, "me", known=True)


def test_remembers_no_more_than_so_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_MOST_REMEMBERED", 1)
    owned = OwnedProfiles(store)
    put_profile(store, "you", SHA, SUMMARY, 3, b"gzipped")
    given(owned, "me", known=True)
    given(owned, "you", known=True)
    delete_profile(store, "me", SHA)
    with pytest.raises(ProblemError, match="there is no profile"):
        given(owned, "me", known=True)
