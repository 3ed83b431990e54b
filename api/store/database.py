"""Open the database; read and write it in transactions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from allocator import Fault, InvalidInputError
from api.errors import StoreDamagedError, StoreFullError, StoreUnavailableError
from api.settings import Settings
from api.store.migrate import migrate
from api.store.reserve import Reserve
from api.store.sqlite import WRITE_WAIT_S, WRITES, sqlite_engine, write_and_take_back

#: Who asks whether the database works gets an answer within this.
_CHECK_S = 1.0
#: Threads that write at a time; those that wait for one of them must not take the threads of those who read.
_WRITERS = 4
_EXPECTED = "expected postgresql+psycopg://user:password@host/name or sqlite:///path/of/a/file"
#: A writer that had to wait for so long is told to come back.
_WRITER_WAIT_S = 10.0
_FULL = ("disk is full", "no space left", "disk full", "could not extend")
_DAMAGED = ("malformed", "not a database", "file is encrypted", "invalid page in block", "disk image")
_READ_ONLY = ("readonly", "read-only")
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Store:
    """An open database.

    Attributes:
        engine: Its connections.
        reserve: Disk space set aside for deletions; None where the disk is another machine's.
        writers: Capacity for writers; :func:`api.store.database.run_in_write_thread` waits for it.
    """

    engine: Engine
    reserve: Reserve | None = None
    writers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_WRITERS), repr=False)
    _one_writer: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read in one transaction.

        Yields:
            The connection.
        """
        with translated_errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, wait_s: float = WRITE_WAIT_S) -> Iterator[Connection]:
        """Write in one transaction: all of the block or nothing.

        Args:
            wait_s: How long to wait for another writer.

        Yields:
            The connection.
        """
        options = {WRITES: wait_s}
        with (
            translated_errors(),
            self._one_at_a_time(wait_s),
            self.engine.execution_options(**options).begin() as connection,
        ):
            yield connection

    def freeing(self, work: Callable[[Connection], T]) -> T:
        """Write what frees space, on a full disk too.

        Args:
            work: Deletes, in a transaction; called again where there was no space for it.

        Returns:
            What it returns.

        Raises:
            StoreFullError: There is no space even for that.
        """
        try:
            with self.writing() as connection:
                return work(connection)
        except StoreFullError:
            if self.reserve is None or not self.reserve.release():
                raise
            with self.writing() as connection:
                return work(connection)

    def check(self) -> None:
        """Make sure, soon, that the database takes writes and has space for more.

        Raises:
            StoreUnavailableError: It does not answer.
            StoreFullError: It has no space left.
        """
        if self.engine.dialect.name != "sqlite":
            with self.writing(_CHECK_S) as connection:
                connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
            return
        with self.writing(_CHECK_S) as connection:
            write_and_take_back(connection)
            connection.rollback()
        if self.reserve is not None:
            self.reserve.take()

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    @contextmanager
    def _one_at_a_time(self, wait_s: float) -> Iterator[None]:
        # SQLite has one writer; waiting here is fair and quick, waiting in SQLite sleeps.
        if self.engine.dialect.name != "sqlite":
            yield
            return
        if not self._one_writer.acquire(timeout=wait_s):
            raise StoreUnavailableError("the database is locked by another program")
        try:
            yield
        finally:
            self._one_writer.release()


def open_store(settings: Settings) -> Store:
    """Open the database and bring its tables up to date.

    Returns:
        The store; close it at the end.

    Raises:
        InvalidInputError: The database URL cannot be used, or the data folder cannot be made or written.
        StoreDamagedError: The database cannot be read; says what to do.
        StoreUnavailableError: The database does not answer.
        StoreFullError: The database has no space left.
    """
    url, setting = _place(settings)
    if url.get_backend_name() == "sqlite":
        engine = sqlite_engine(url, setting)
        store = Store(engine, Reserve(Path(str(engine.url.database)).with_name("reserve")))
    else:
        store = Store(_server(url))
    try:
        with store.writing() as connection:
            migrate(connection)
    except StoreDamagedError as error:
        store.close()
        shown = store.engine.url.render_as_string(hide_password=True)
        raise StoreDamagedError(
            f"the database {shown} is damaged; move it away to begin anew, or put a copy in its place "
            "(for SQLite, `sqlite3 FILE .recover` saves what can be read)"
        ) from error
    if store.reserve is not None:
        store.reserve.take()
    return store


def _place(settings: Settings) -> tuple[URL, str]:
    if settings.database_url is None:
        folder = settings.data_dir.expanduser().resolve()
        return URL.create("sqlite", database=str(folder / "bitalloc.db")), "BITALLOC_DATA_DIR"
    try:
        url = make_url(settings.database_url)
    except ArgumentError as error:
        raise InvalidInputError(Fault("BITALLOC_DATABASE_URL", _EXPECTED)) from error
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise InvalidInputError(Fault("BITALLOC_DATABASE_URL", f"{_EXPECTED}, got {url.drivername}://…"))
    return url, "BITALLOC_DATABASE_URL"


def _server(url: URL) -> Engine:
    # A connection may have died with the server while it lay in the pool; the ping finds out before a request does.
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        hide_parameters=True,  # errors are logged, and what they were about is somebody's
        pool_size=8,
        pool_timeout=5,
        connect_args={"connect_timeout": 5},
    )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Say in one way that the database is full, damaged or gone.

    Raises:
        StoreFullError: It has no space left.
        StoreDamagedError: It cannot be read.
        StoreUnavailableError: It does not answer, or takes no writes.
        DBAPIError: Anything else, such as a row that is there already.
        SQLAlchemyError: A mistake in the program.
    """
    try:
        yield
    except DBAPIError as error:
        said = str(error.orig).lower()
        if any(words in said for words in _FULL):
            raise StoreFullError("the database has no room left") from error
        if any(words in said for words in _DAMAGED):
            raise StoreDamagedError("the database is damaged") from error
        if any(words in said for words in _READ_ONLY):
            raise StoreUnavailableError("the database takes no writes: it is read-only") from error
        if "locked" in said:
            raise StoreUnavailableError("the database is locked by another program") from error
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


async def run_in_write_thread(
    function: Callable[Concatenate[Store, P], T], store: Store, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a function that writes, off the event loop and out of the way of those who read.

    Functions of the store block. Reads may take any thread. Writers of SQLite wait for each other, and for other
    programs: if they waited in threads, there would soon be none left to read with.

    Returns:
        What it returns.

    Raises:
        StoreUnavailableError: It had to wait for too long.
    """
    try:
        async with asyncio.timeout(_WRITER_WAIT_S):
            await store.writers.acquire()
    except TimeoutError as error:
        raise StoreUnavailableError("the database does not get done with what it has to write") from error
    try:
        return await to_thread.run_sync(partial(function, store, *args, **kwargs), limiter=CapacityLimiter(1))
    finally:
        store.writers.release()
