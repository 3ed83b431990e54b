"""Settings of the service, from ``BITALLOC_*`` environment variables."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What an operator can set.

    Attributes:
        max_body_bytes: Larger request bodies are refused with 413 before they are read.
        max_time_limit_s: Longest time limit that a request may ask for, and the one it gets when it asks for none.
    """

    model_config = SettingsConfigDict(env_prefix="BITALLOC_", frozen=True)

    max_body_bytes: Annotated[int, Field(gt=0)] = 64 * 2**20
    max_time_limit_s: Annotated[float, Field(gt=0)] = 60.0
