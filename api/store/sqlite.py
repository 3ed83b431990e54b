"""SQLite: one file, its user's alone; one writer, readers that never wait for it."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from allocator import Fault, InvalidInputError

#: Longest waits for a lock of another program, in seconds: of writers, and of readers, who hardly ever need one.
WRITE_WAIT_S, READ_WAIT_S = 5.0, 2.0
_RETRY_S = 0.02
#: Execution option of a connection that is to write: how long it waits for other writers.
WRITES = "bitalloc_write_wait_s"
#: What a check writes, and takes back: as much as a plan or two.
_PROBE_BYTES = 2**18
_DRIVERS = ("sqlite", "sqlite+pysqlite")
_FOLDER, _FILE = 0o700, 0o600


def sqlite_engine(url: URL, setting: str) -> Engine:
    """Open the file that a URL names, which is made when it is missing.

    Args:
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
        timeout_s = READ_WAIT_S if wait_s is None else wait_s
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {timeout_s * 1e3:.0f}")
        connection.exec_driver_sql("BEGIN" if wait_s is None else "BEGIN IMMEDIATE")

    return engine


def write_and_take_back(connection: Connection) -> None:
    """Write as a plan would, so that the database says whether it has space; the transaction is to be rolled back."""
    # With so few pages in memory, SQLite has to put what it is given onto the disk at once.
    pages = connection.exec_driver_sql("PRAGMA cache_size").scalar()
    connection.exec_driver_sql("PRAGMA cache_size = 10")
    try:
        connection.exec_driver_sql(f"CREATE TABLE probe AS SELECT zeroblob({_PROBE_BYTES}) AS filler")
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


def private_folder(folder: Path, setting: str) -> None:
    """Make a folder that only its user may enter; one that is there for other things too stays as it is.

    Args:
        setting: Variable that named it.

    Raises:
        InvalidInputError: It cannot be made, or nothing can be written into it.
    """
    try:
        folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        detail = f"the data folder cannot be made: {error}; name another one"
        raise InvalidInputError(Fault(setting, detail)) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        detail = f"the data folder {folder} cannot be written by this user; name another one or change its permissions"
        raise InvalidInputError(Fault(setting, detail))
    if _is_ours(folder):
        folder.chmod(_FOLDER)


def private_file(path: Path, setting: str) -> None:
    """Make a file that only its user may read, or take it from the others.

    SQLite gives the files that it makes beside it the same permissions.

    Args:
        setting: Variable that named its place.

    Raises:
        InvalidInputError: It cannot be opened for writing.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, _FILE)
    except OSError as error:
        detail = f"the database {path} cannot be opened for writing: {error.strerror}"
        raise InvalidInputError(Fault(setting, detail)) from error
    try:
        status = os.fstat(descriptor)
        if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) != _FILE:
            os.fchmod(descriptor, _FILE)
            for beside in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                if beside.exists():
                    beside.chmod(_FILE)
    finally:
        os.close(descriptor)


def _is_ours(folder: Path) -> bool:
    # A folder of an earlier release, made with wider permissions; never somebody's home or /tmp.
    names = [entry.name for entry in folder.iterdir()]
    known = all(name.startswith(("bitalloc.db", "queue.db", "reserve")) for name in names)
    status = folder.stat()
    return bool(names) and known and status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) != _FOLDER
