"""What all wire models share: strict fields, frozen values, finite numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Strict(BaseModel):
    """Base of the wire models: unknown fields are refused by name and instances never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy, as :meth:`pydantic.BaseModel.model_copy` does, but for what was computed from the fields.

        Args:
            update: Fields to replace, not validated.
            deep: Whether to copy what is inside as well.

        Returns:
            The copy.
        """
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


# A hundred thousand products of two such numbers still add up to a finite one.
_MOST = 1e150
#: A finite number; strings and booleans are not numbers.
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-_MOST, le=_MOST)]
#: A finite number of at least zero.
Size = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=_MOST)]
#: A count of things.
Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
#: A name that is not empty.
Name = Annotated[str, StringConstraints(min_length=1, max_length=512)]
