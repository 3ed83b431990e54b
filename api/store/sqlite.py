"""SQLite: one file, one writer, readers that never wait for it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from allocator import Fault, InvalidInputError
from api.store.files import private_file, private_folder

#: Longest waits for a lock of another program, in seconds: of writers, and of readers, who hardly ever need one.
WRITE_WAIT_S, READ_WAIT_S = 5.0, 2.0
_RETRY_S = 0.02
#: Execution option of a connection that is to write: how long it waits for its turn.
WRITES = "bitalloc_write_wait_s"
#: What a check writes, and takes back: as much as a plan or two.
_PROBE_BYTES = 2**18


def sqlite_engine(url: URL, setting: str) -> Engine:
    """Open the file that a URL names, which is made when it is missing.

    Args:
        url: Of SQLAlchemy.
        setting: Variable that named it.

    Returns:
        Its connections.

    Raises:
        InvalidInputError: The URL names no file, another driver, or a file that cannot be written.
    """
    path = url.database
    if not path or path == ":memory:" or path.startswith("file:") or url.drivername not in _DRIVERS:
        detail = (
            f"expected sqlite:///path/of/a/file, got {url.drivername}:…; the service keeps its data in a file"
        )
        raise InvalidInputError(Fault(setting, detail))
    file = Path(path).expanduser().resolve()
    private_folder(file.parent, setting)
    private_file(file, setting)
    engine = create_engine(url.set(database=str(file)), hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's own
        connection.isolation_level = None  # the driver would begin transactions by itself, and too late
        connection.execute(f"PRAGMA busy_timeout = {WRITE_WAIT_S * 1e3:.0f}")
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        wait_s = connection.get_execution_options().get(WRITES)
        patience_s = READ_WAIT_S if wait_s is None else wait_s
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience_s * 1e3:.0f}")
        connection.exec_driver_sql("BEGIN" if wait_s is None else "BEGIN IMMEDIATE")

    return engine


_DRIVERS = ("sqlite", "sqlite+pysqlite")


def write_and_take_back(connection: Connection) -> None:
    """Write as a plan would, so that the database says whether it has room; the transaction is to be rolled back.

    Args:
        connection: In a transaction that writes.
    """
    # With so few pages in memory, SQLite has to put what it is given onto the disk at once.
    pages = connection.exec_driver_sql("PRAGMA cache_size").scalar()
    connection.exec_driver_sql("PRAGMA cache_size = 10")
    try:
        connection.exec_driver_sql(f"CREATE TABLE probe AS SELECT zeroblob({_PROBE_BYTES}) AS room")
    finally:
        connection.exec_driver_sql(f"PRAGMA cache_size = {pages}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    # The first to ask changes the file, and SQLite tells others that ask meanwhile at once that it is locked: here
    # it does not wait as it does elsewhere.
    until = time.monotonic() + WRITE_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(_RETRY_S)
        else:
            return
