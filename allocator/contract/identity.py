"""Which model a profile was measured on, so that nothing is measured or written on another one."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from allocator.contract.schema import Count, Strict

_Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class ModelIdentity(Strict):
    """The model behind a profile: what it is called, and digests of the weights that are planned.

    Digests do not depend on names, on the type that the weights are stored in, or on the order of the layers: a
    checkpoint in half precision and the module that was loaded from it in single precision are one model.

    Attributes:
        architecture: Class of the model, for people; not compared.
        layers: Number of planned weights.
        parameters: How many numbers they hold.
        shapes_sha256: SHA-256 over the sorted shapes.
        weights_sha256: SHA-256 over the sorted digests of each weight: its shape, and its values in single precision.

    Example:
        >>> made = ModelIdentity(
        ...     architecture="BertModel", layers=1, parameters=4, shapes_sha256="0" * 64, weights_sha256="1" * 64
        ... )
        >>> made.text()
        'BertModel, 1 planned weights, 4 parameters, digest 111111111111'
    """

    architecture: str
    layers: Count
    parameters: Count
    shapes_sha256: _Digest
    weights_sha256: _Digest

    def same(self, other: ModelIdentity) -> bool:
        """Return whether two models have the same weights, shapes and values."""
        mine = (self.layers, self.parameters, self.shapes_sha256, self.weights_sha256)
        return mine == (other.layers, other.parameters, other.shapes_sha256, other.weights_sha256)

    def text(self) -> str:
        """Return one line that names the model for people."""
        size = f"{self.layers:,} planned weights, {self.parameters:,} parameters"
        return f"{self.architecture}, {size}, digest {self.weights_sha256[:12]}"
