"""Settings of the service, from ``BITALLOC_*`` environment variables."""

from __future__ import annotations

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
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True)

    max_body_bytes: Annotated[int, Field(gt=0)] = 64 * 2**20
    max_time_limit_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0


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
