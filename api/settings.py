"""Settings of the service, from ``BITALLOC_*`` environment variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from allocator import Fault, InvalidInputError

_PREFIX = "BITALLOC_"
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Positive = Annotated[int, Field(gt=0)]


class Settings(BaseSettings):
    """What an operator can set.

    Attributes:
        max_body_bytes: Larger request bodies are refused with 413 before they are read; counted unpacked.
        max_waiting_bytes: Bodies of all requests that are here at a time; beyond, 503 with Retry-After.
        upload_timeout_s: Seconds that a body may take to arrive.
        max_header_bytes: Address and headers of a request; more is refused with 431.
        header_timeout_s: Seconds that the headers of a request may take to arrive.
        max_connections: Open connections; where all are taken, one that asks for nothing gives way to a new one, and
            where there is none such, the new one is refused with 503. Fewer where the limit of open files says so.
        max_json_depth: Levels of nesting in a body.
        max_json_values: Brackets, commas and colons in a body, which is what numbers, texts, arrays, objects and keys
            come with.
        max_layers: Rows of a profile.
        max_formats: Columns of a profile.
        max_rules: Entries of ``pin``, ``allow``, ``forbid``, ``limits``, ``budgets`` and ``batch``, each.
        max_time_limit_s: Longest time limit that a request may ask for, and the one it gets when it asks for none.
        max_requests_per_minute: Requests per minute and API key, in each replica, unless the key has its own limit.
        max_running_per_key: Tasks of one API key that workers do at a time, in each replica; 0 for all workers but one.
        max_waiting_per_key: Requests of one API key that wait for a worker at a time, in each replica; beyond, 429.
        max_jobs_per_key: Jobs of one API key that are queued or running at a time; beyond, 429.
        max_stored_bytes_per_key: What one API key may store, packed; beyond, 507 until it has deleted something.
        cors_origins: Origins whose pages may call the service, separated by commas; none by default.
        log_level: Least level that is logged.
        data_dir: Folder of the embedded database; made when it is missing.
        database_url: Database that several replicas share, ``postgresql+psycopg://user:password@host/name``, or a
            file, ``sqlite:///path/of/a/file``; the embedded one in ``data_dir`` when absent.
        workers: Processes that solve; 0 for one per core and one more.
        worker_memory_bytes: Address space that a worker may take before its solve fails.
        overrun_s: Time past its limit that a solve gets before it is killed.
        jobs: Solves that may outlast their request at a time; more of them wait in the queue.
        wait_s: How long a request waits for its answer when it does not say (``Prefer: wait=…``).
        max_wait_s: The longest wait that a request may ask for.
        lease_s: A service that gives no sign of life for so long is taken for dead, and its jobs go on elsewhere.
        keep_jobs_s: Jobs that ended, and their progress, are forgotten after this.
        keep_idempotency_s: Idempotency keys and their answers are forgotten after this.
        keep_allocations_s: Plans are forgotten this long after they were asked for, not before their job; never when
            absent.
        stream_s: Lifetime of an event stream; clients then reconnect.
        plugins: Modules whose ``register()`` every worker calls at its start; it may add solvers to
            ``allocator.SOLVERS``.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True)

    max_body_bytes: _Positive = 64 * 2**20
    max_waiting_bytes: _Positive = 512 * 2**20
    upload_timeout_s: _Seconds = 60.0
    max_header_bytes: _Positive = 32 * 2**10
    header_timeout_s: _Seconds = 10.0
    max_connections: _Positive = 1_000
    max_json_depth: Annotated[int, Field(gt=0, le=200)] = 64  # the parser's own limit
    max_json_values: _Positive = 5_000_000
    max_layers: _Positive = 100_000
    max_formats: _Positive = 256
    max_rules: _Positive = 1_000
    max_time_limit_s: _Seconds = 60.0
    max_requests_per_minute: _Positive = 6_000
    max_running_per_key: Annotated[int, Field(ge=0, le=256)] = 0
    max_waiting_per_key: _Positive = 1_000
    max_jobs_per_key: _Positive = 1_000
    max_stored_bytes_per_key: _Positive = 8 * 2**30
    data_dir: Path = Field(default_factory=lambda: _data_home() / "bitalloc")
    database_url: str | None = None
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    worker_memory_bytes: Annotated[int, Field(ge=2**29)] = 8 * 2**30
    overrun_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    jobs: Annotated[int, Field(gt=0, le=256)] = 2
    wait_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    max_wait_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    lease_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    keep_jobs_s: _Seconds = 7 * 86_400.0
    keep_idempotency_s: _Seconds = 86_400.0
    keep_allocations_s: _Seconds | None = None
    stream_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    plugins: tuple[str, ...] = ()
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        return tuple(filter(None, map(str.strip, given.split(",")))) if isinstance(given, str) else given

    @field_validator("cors_origins")
    @classmethod
    def _no_wildcard(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not origin.startswith(("http://", "https://")) or "/" in origin.partition("://")[2]:
                raise ValueError(f"expected origins such as https://plans.example.org, got {origin!r}")
        return origins


def load_settings() -> Settings:
    """Read the settings from the environment.

    Returns:
        The settings.

    Raises:
        InvalidInputError: A variable cannot be used; names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = (
            Fault(_PREFIX + str(entry["loc"][0]).upper(), f"{entry['msg']} (got {entry['input']!r})")
            for entry in error.errors()
        )
        raise InvalidInputError(*faults) from error


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
