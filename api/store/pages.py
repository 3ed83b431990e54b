"""Pages of a list, newest first, by a cursor that stays valid while rows come and go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, Select

from api.store.database import Store

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list.

    Attributes:
        items: The entries.
        next_cursor: Asks for the page after this one; None at the end.
    """

    items: tuple[T, ...]
    next_cursor: str | None


def page_of(
    store: Store,
    query: Select[Any],
    order: Column[str],
    limit: int,
    cursor: str | None,
    read: Callable[[Any], T],
) -> Page[T]:
    """Read a page.

    Args:
        query: Of all rows; has the column ``order``.
        order: Column with unique values of :func:`~api.ids.new_id`.
        limit: How many rows at most.
        cursor: The last value of the page before.
        read: Makes an entry of a row.

    Returns:
        The page.
    """
    if cursor is not None:
        query = query.where(order < cursor)
    with store.reading() as connection:
        rows = connection.execute(query.order_by(order.desc()).limit(limit + 1)).all()
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(tuple(map(read, shown)), getattr(shown[-1], order.name) if more else None)
