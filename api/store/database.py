"""Open the database, and say in one way when it is full or gone."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from allocator import BitallocError, Fault, InvalidInputError
from api.settings import Settings
from api.store.migrate import migrate

#: Longest wait for a lock of another process, in milliseconds.
_BUSY_MS = 10_000
_RETRY_S = 0.02
_WRITES = {"bitalloc_writes": True}


class StoreUnavailableError(BitallocError, RuntimeError):
    """The database does not answer; the same request may succeed later."""


class StoreFullError(BitallocError, RuntimeError):
    """The database has no room left; what it holds is intact."""


@dataclass(frozen=True, eq=False)
class Store:
    """An open database.

    Attributes:
        engine: Its connections.
    """

    engine: Engine
    _writing: AbstractContextManager[Any] = field(default_factory=nullcontext, repr=False)

    @cached_property
    def _writer(self) -> Engine:
        return self.engine.execution_options(**_WRITES)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read in one transaction.

        Yields:
            The connection.
        """
        with _told(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Write in one transaction: all of the block or nothing.

        Yields:
            The connection.
        """
        # SQLite has one writer; waiting here is fair and quick, waiting in SQLite sleeps.
        with _told(), self._writing, self._writer.begin() as connection:
            yield connection

    def check(self) -> None:
        """Make sure that the database takes writes.

        Raises:
            StoreUnavailableError: It does not answer.
            StoreFullError: It has no room left.
        """
        with self.writing() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = version_num"))

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()


def database_url(settings: Settings) -> str:
    """Tell which database the settings mean.

    Args:
        settings: The settings.

    Returns:
        Its SQLAlchemy URL.
    """
    return settings.database_url or f"sqlite:///{settings.data_dir.expanduser().resolve() / 'bitalloc.db'}"


def open_store(settings: Settings) -> Store:
    """Open the database and bring its tables up to date.

    Args:
        settings: The settings.

    Returns:
        The store; close it at the end.

    Raises:
        InvalidInputError: The database URL cannot be used, or the data folder cannot be made.
        StoreUnavailableError: The database does not answer.
        StoreFullError: The database has no room left.
    """
    store = _sqlite(settings) if settings.database_url is None else _server(settings.database_url)
    with store.writing() as connection:
        migrate(connection)
    return store


def _sqlite(settings: Settings) -> Store:
    try:
        settings.data_dir.expanduser().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        detail = f"the data folder cannot be made: {error}; name another one"
        raise InvalidInputError(Fault("BITALLOC_DATA_DIR", detail)) from error
    return _opened_sqlite(database_url(settings))


def _opened_sqlite(url: str) -> Store:
    engine = create_engine(url, connect_args={"timeout": _BUSY_MS / 1e3}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's own
        connection.isolation_level = None  # the driver would begin transactions by itself, and too late
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        writes = connection.get_execution_options().get("bitalloc_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return Store(engine, threading.Lock())


def _write_ahead(connection: sqlite3.Connection) -> None:
    # The first to ask changes the file, and SQLite tells others that ask meanwhile at once that it is locked: here
    # it does not wait as it does elsewhere.
    until = time.monotonic() + _BUSY_MS / 1e3
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def _server(url: str) -> Store:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        detail = "expected postgresql+psycopg://user:password@host/name"
        raise InvalidInputError(Fault("BITALLOC_DATABASE_URL", detail)) from error
    if parsed.get_backend_name() == "sqlite":
        return _opened_sqlite(url)
    if parsed.get_backend_name() != "postgresql":
        detail = f"expected postgresql+psycopg://user:password@host/name, got {parsed.drivername}://…"
        raise InvalidInputError(Fault("BITALLOC_DATABASE_URL", detail))
    # A connection may have died with the server while it lay in the pool; the ping finds out before a request does.
    engine = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        hide_parameters=True,  # errors are logged, and what they were about is somebody's
        pool_size=8,
        pool_timeout=5,
        connect_args={"connect_timeout": 5},
    )
    return Store(engine)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        said = str(error.orig).lower()
        if any(words in said for words in ("disk is full", "no space left", "disk full", "could not extend")):
            raise StoreFullError("the database has no room left") from error
        gone = error.connection_invalidated or any(
            words in type(error).__name__ for words in ("OperationalError", "InterfaceError")
        )
        if gone:
            raise StoreUnavailableError("the database does not answer") from error
        raise
    except SQLAlchemyError as error:
        if "QueuePool limit" in str(error):
            raise StoreUnavailableError("the database does not answer") from error
        raise
