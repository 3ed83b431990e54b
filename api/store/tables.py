"""The tables as SQLAlchemy sees them; ``migrations/`` makes them.

Every row has an owner: the API key that made it, or the text of :data:`api.owners.NOBODY` where there are no keys.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, String, Table, Text

METADATA = MetaData()

#: Content-addressed: ``sha256`` is :meth:`allocator.Profile.digest`, ``body`` the canonical JSON, gzipped.
profiles = Table(
    "profiles",
    METADATA,
    Column("owner", String(64), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("added", String(32), nullable=False, unique=True),
    Column("summary", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

#: What was planned: the request without its profile, and the answer, gzipped JSON both.
allocations = Table(
    "allocations",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False, index=True),
    Column("profile_sha256", String(64), nullable=False),
    Column("status", String(32), nullable=False),
    Column("version", String(64), nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
)
