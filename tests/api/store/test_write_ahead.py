"""SQLite changes its journal for nobody while somebody writes, and does not wait for that by itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from api.errors import StoreUnavailableError
from api.settings import Settings
from api.store import open_store, sqlite


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that writes to the database as it was made, without a write-ahead log."""
    connection = sqlite3.connect(tmp_path / "bitalloc.db", isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE other (x)")
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


def test_a_service_waits_for_another_that_starts(tmp_path: Path, writer: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite3.connect(tmp_path / "bitalloc.db", timeout=10).execute("PRAGMA journal_mode = WAL")
    Timer(0.3, lambda: writer.execute("COMMIT")).start()
    store = open_store(Settings(data_dir=tmp_path))
    store.check()
    store.close()


def test_it_does_not_wait_for_ever(
    tmp_path: Path, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WRITE_WAIT_S", 0.05)
    assert writer.in_transaction
    with pytest.raises(StoreUnavailableError, match="is locked by another program"):
        open_store(Settings(data_dir=tmp_path))
