"""What all wire models share: strict fields, frozen values, finite numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Strict(BaseModel):
    """Base of the wire models: unknown fields are refused by name and instances never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


#: A finite number; strings and booleans are not numbers.
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
#: A finite number of at least zero.
Size = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
#: A count of things.
Count = Annotated[int, Field(strict=True, ge=0)]
#: A name that is not empty.
Name = Annotated[str, StringConstraints(min_length=1, max_length=512)]
