"""Keys in the database."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import insert, select, update

from allocator import Fault, InvalidInputError
from api.keys.key import Key, digest_of, new_secret
from api.store import Store
from api.store.tables import api_keys


def create_key(
    store: Store, name: str, max_requests_per_minute: int | None = None, max_body_bytes: int | None = None
) -> tuple[Key, str]:
    """Make a key.

    Args:
        max_requests_per_minute: Its own limit, for each replica.

    Returns:
        What is stored, and the key itself, which is not.
    """
    identifier, text = new_secret()
    key = Key(identifier, name, digest_of(text), _now(), None, max_requests_per_minute, max_body_bytes)
    with store.writing() as connection:
        connection.execute(insert(api_keys).values(**vars(key)))
    return key, text


def find_key(store: Store, identifier: str) -> Key | None:
    """Return the key of an id, revoked or not."""
    with store.reading() as connection:
        row = connection.execute(select(api_keys).where(api_keys.c.id == identifier)).first()
    return None if row is None else Key(**row._mapping)


def has_keys(store: Store) -> bool:
    """Tell whether there ever was a key.

    Returns:
        Whether requests need one; revoked keys count, for the last revocation must not open the service to everybody.
    """
    with store.reading() as connection:
        return connection.execute(select(api_keys.c.id).limit(1)).first() is not None


def list_keys(store: Store) -> tuple[Key, ...]:
    """Return all keys, in the order in which they were made."""
    with store.reading() as connection:
        rows = connection.execute(select(api_keys).order_by(api_keys.c.created, api_keys.c.id)).all()
    return tuple(Key(**row._mapping) for row in rows)


def revoke_key(store: Store, identifier: str) -> Key:
    """Refuse a key from now on; what it made stays in the database.

    Returns:
        The key.

    Raises:
        InvalidInputError: No key has this id.
    """
    still = api_keys.c.id == identifier, api_keys.c.revoked.is_(None)
    revoked = update(api_keys).where(*still).values(revoked=_now())
    store.freeing(lambda connection: connection.execute(revoked))  # on a full disk too
    key = find_key(store, identifier)
    if key is None:
        detail = f"no key has the id {identifier!r}; `bitalloc keys list` shows them"
        raise InvalidInputError(Fault("/id", detail))
    return key


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
