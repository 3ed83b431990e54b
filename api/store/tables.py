"""The tables as SQLAlchemy sees them; ``migrations/`` makes them.

Every row has an owner: the API key that made it, or the text of :data:`api.keys.cache.NOBODY` where there are no keys.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, MetaData, String, Table, Text

METADATA = MetaData()

#: Content-addressed: ``sha256`` is :meth:`allocator.contract.profile.Profile.digest`, ``body`` the canonical JSON,
#: gzipped.
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

#: Keys by id; ``digest`` is all that is kept of their secrets.
api_keys = Table(
    "api_keys",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created", String(32), nullable=False),
    Column("revoked", String(32)),
    Column("max_requests_per_minute", Integer),
    Column("max_body_bytes", BigInteger),
)

#: Long work, and the queue of it. ``request`` is the body as it came, gzipped, and goes once the job has ended;
#: ``replica`` runs the job, or took it in.
jobs = Table(
    "jobs",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False, index=True),
    Column("state", String(16), nullable=False, index=True),
    Column("replica", String(32), nullable=False),
    Column("request", LargeBinary),
    Column("progress", Text),
    Column("problem", Text),
    Column("plans", Integer, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
)

#: The progress of a job, for event streams.
job_events = Table(
    "job_events",
    METADATA,
    Column("job", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("facts", Text, nullable=False),
)

#: Services on this database that live, each with the time of its last sign of life by its own clock.
replicas = Table(
    "replicas",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("seen_at", Double, nullable=False),
)

#: Answers by the Idempotency-Key of their request; ``answer`` is null while the first request is in flight.
idempotency = Table(
    "idempotency",
    METADATA,
    Column("owner", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("asked_sha256", String(64), nullable=False),
    Column("replica", String(32), nullable=False),
    Column("made_at", Double, nullable=False),
    Column("status", Integer),
    Column("headers", Text),
    Column("answer", LargeBinary),
)
