"""Settings of the service, from ``BITALLOC_*`` environment variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from allocator import Fault, InvalidInputError

_PREFIX = "BITALLOC_"


class Settings(BaseSettings):
    """What an operator can set.

    Attributes:
        max_body_bytes: Larger request bodies are refused with 413 before they are read.
        max_time_limit_s: Longest time limit that a request may ask for, and the one it gets when it asks for none.
        data_dir: Folder of the embedded database; made when it is missing.
        database_url: Database that several replicas share, ``postgresql+psycopg://user:password@host/name``; the
            embedded one in ``data_dir`` when absent.
        workers: Processes that solve; 0 for one per core, at least two.
        worker_memory_bytes: Address space that a worker may take before its solve fails.
        overrun_s: Time past its limit that a solve gets before it is killed.
        jobs: Solves that may outlast their request at a time; more of them wait in the queue.
        wait_s: How long a request waits for its answer when it does not say (``Prefer: wait=…``).
        max_wait_s: The longest wait that a request may ask for.
        lease_s: A service that gives no sign of life for so long is taken for dead, and its jobs go on elsewhere.
        stream_s: Lifetime of an event stream; clients then reconnect.
        plugins: Modules that every worker imports at its start; they may add solvers to ``allocator.SOLVERS``.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True)

    max_body_bytes: Annotated[int, Field(gt=0)] = 64 * 2**20
    max_time_limit_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    data_dir: Path = Field(default_factory=lambda: _data_home() / "bitalloc")
    database_url: str | None = None
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    worker_memory_bytes: Annotated[int, Field(ge=2**29)] = 8 * 2**30
    overrun_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    jobs: Annotated[int, Field(gt=0, le=256)] = 2
    wait_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    max_wait_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    lease_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    stream_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    plugins: tuple[str, ...] = ()


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
            Fault(_PREFIX + str(entry["loc"][-1]).upper(), f"{entry['msg']} (got {entry['input']!r})")
            for entry in error.errors()
        )
        raise InvalidInputError(*faults) from error


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
