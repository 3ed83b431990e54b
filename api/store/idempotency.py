"""Answers by the ``Idempotency-Key`` of their request, shared by all replicas.

Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from api.store.database import Store
from api.store.tables import idempotency


@dataclass(frozen=True)
class Claim:
    """A key in use.

    Attributes:
        asked_sha256: Hash of the request that used it first.
        replica: The service that works on it, or did.
        status: Status of the answer; None while the first request is in flight.
        headers: Headers of the answer.
        answer: Body of the answer, gzipped.
    """

    asked_sha256: str
    replica: str
    status: int | None
    headers: Mapping[str, str]
    answer: bytes


def claim_key(
    store: Store, owner: str, key: str, asked_sha256: str, replica: str, keep_s: float = math.inf
) -> Claim | None:
    """Use a key for the first time.

    Args:
        asked_sha256: Hash of the request.
        keep_s: How long a key is remembered after its answer.

    Returns:
        None where the key is this request's now; otherwise what it was used for.
    """
    values = {"asked_sha256": asked_sha256, "replica": replica, "made_at": time.time()}
    try:
        with store.writing() as connection:
            old = idempotency.c.made_at < time.time() - keep_s, idempotency.c.status.is_not(None)
            connection.execute(delete(idempotency).where(*_mine(owner, key), *old))
            connection.execute(insert(idempotency).values(owner=owner, key=key, **values))
    except IntegrityError:
        with store.reading() as connection:
            row = connection.execute(select(idempotency).where(*_mine(owner, key))).first()
        if row is None:  # released a moment ago
            return claim_key(store, owner, key, asked_sha256, replica, keep_s)
        headers = json.loads(row.headers) if row.headers else {}
        return Claim(row.asked_sha256, row.replica, row.status, headers, row.answer or b"")
    return None


def take_over_key(store: Store, owner: str, key: str, before: str, replica: str) -> bool:
    """Go on with a key whose service died before it answered.

    Args:
        before: The service that had it.

    Returns:
        Whether it is ours now; false where somebody was quicker.
    """
    mine = (*_mine(owner, key), idempotency.c.replica == before, idempotency.c.status.is_(None))
    with store.writing() as connection:
        return connection.execute(update(idempotency).where(*mine).values(replica=replica)).rowcount > 0


def answer_key(
    connection: Connection, owner: str, key: str, status: int, headers: Mapping[str, str], answer: bytes
) -> None:
    """Keep the answer to a key, in the transaction that keeps what was made.

    Args:
        connection: In a transaction.
        status: Status of the answer.
        headers: Headers of the answer.
        answer: Body of the answer, gzipped.
    """
    values = {"status": status, "headers": json.dumps(dict(headers)), "answer": answer}
    connection.execute(update(idempotency).where(*_mine(owner, key)).values(values))


def release_key(store: Store, owner: str, key: str) -> None:
    """Forget a key whose request failed, so that it can be tried again."""
    released = delete(idempotency).where(*_mine(owner, key), idempotency.c.status.is_(None))
    store.freeing(lambda connection: connection.execute(released))


def _mine(owner: str, key: str) -> tuple[Any, ...]:
    return idempotency.c.owner == owner, idempotency.c.key == key
