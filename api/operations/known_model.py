"""What a client says of a model, whose checkpoint the service does not see."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from allocator.contract.schema import Name, Strict
from quantize.lint import Model


class KnownModel(Strict):
    """What is known of the model.

    Attributes:
        shapes: Layer name to the shape of its weight, or null where it is not known.
        tied: Groups of layers that share one weight.
    """

    shapes: dict[Name, Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=8)] | None]
    tied: tuple[tuple[Name, ...], ...] = ()

    def for_lint(self) -> Model:
        """The same for the library.

        Returns:
            Names, shapes and ties.
        """
        return Model(self.shapes, self.tied)
