"""What a database may answer instead of doing what it was asked, in one way for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from api.errors import StoreDamagedError, StoreFullError, StoreUnavailableError

_FULL = ("disk is full", "no space left", "disk full", "could not extend")
_DAMAGED = ("malformed", "not a database", "file is encrypted", "invalid page in block", "disk image")
_READ_ONLY = ("readonly", "read-only")


@contextmanager
def told() -> Iterator[None]:
    """Say in one way that the database is full, damaged or gone.

    Raises:
        StoreFullError: It has no room left.
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
