"""What was stored before there were keys belongs to none of them, until an operator gives it to one."""

from __future__ import annotations

from sqlalchemy import Table, delete, func, select, update

from allocator import Fault, InvalidInputError
from api.keys.cache import NOBODY
from api.keys.table import find_key
from api.store import Store
from api.store.tables import allocations, idempotency, jobs, profiles

_COUNTED: tuple[Table, ...] = (profiles, allocations, jobs)


def of_nobody(store: Store) -> dict[str, int]:
    """Count what was stored without a key.

    Returns:
        Table to number of rows; tables without any are left out.
    """
    with store.reading() as connection:
        counts = {
            table.name: connection.execute(
                select(func.count()).select_from(table).where(table.c.owner == NOBODY)
            ).scalar_one()
            for table in _COUNTED
        }
    return {name: count for name, count in counts.items() if count}


def adopt(store: Store, identifier: str) -> dict[str, int]:
    """Give a key what was stored without one; profiles that it has already stay as they are.

    Args:
        identifier: Id of the key.

    Returns:
        Table to number of rows that are the key's now.

    Raises:
        InvalidInputError: No key that works has this id.
    """
    key = find_key(store, identifier)
    if key is None or key.revoked is not None:
        detail = f"no key that works has the id {identifier!r}; `bitalloc keys list` shows them"
        raise InvalidInputError(Fault("/id", detail))
    given = {}
    with store.writing() as connection:
        for table, unique in ((profiles, profiles.c.sha256), (idempotency, idempotency.c.key)):
            has = select(unique).where(table.c.owner == identifier)
            connection.execute(delete(table).where(table.c.owner == NOBODY, unique.in_(has)))
        for table in (*_COUNTED, idempotency):
            moved = update(table).where(table.c.owner == NOBODY).values(owner=identifier)
            given[table.name] = connection.execute(moved).rowcount
    return {table.name: given[table.name] for table in _COUNTED if given[table.name]}
