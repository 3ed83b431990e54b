"""Whether a model is the one that a profile was measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from allocator import Fault, InvalidInputError, ModelIdentity

_PIECE = 2**22  # numbers that are hashed at a time


def weight_digest(shape: Sequence[int], pieces: Iterable[NDArray[np.float32]]) -> str:
    """Digest one weight: its shape, and its values in single precision.

    Args:
        pieces: Its values from the first to the last, in as many pieces as is handy.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> whole = np.arange(6, dtype=np.float32).reshape(2, 3)
        >>> weight_digest((2, 3), [whole]) == weight_digest((2, 3), [whole[:1], whole[1:]])
        True
    """
    sha = hashlib.sha256(repr(tuple(map(int, shape))).encode())
    for piece in pieces:
        flat = np.ascontiguousarray(piece, dtype="<f4").reshape(-1)
        for start in range(0, flat.size, _PIECE):
            sha.update(flat[start : start + _PIECE].data)
    return sha.hexdigest()


def identity_of(architecture: str, weights: Iterable[tuple[Sequence[int], str]]) -> ModelIdentity:
    """Put the identity of a model together.

    Args:
        architecture: Class of the model.
        weights: (shape, :func:`weight_digest`) of every planned weight, in any order.

    Returns:
        The identity.
    """
    found = [(tuple(map(int, shape)), digest) for shape, digest in weights]
    shapes = sorted(shape for shape, _ in found)
    return ModelIdentity(
        architecture=architecture,
        layers=len(found),
        parameters=sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes),
        shapes_sha256=hashlib.sha256(repr(shapes).encode()).hexdigest(),
        weights_sha256=hashlib.sha256("".join(sorted(digest for _, digest in found)).encode()).hexdigest(),
    )


def identity_of_weights(architecture: str, weights: Iterable[NDArray[np.float32]]) -> ModelIdentity:
    """Put the identity of a model together from its planned weights.

    Args:
        architecture: Class of the model.
        weights: The planned weights, in any order.

    Returns:
        The identity.
    """
    digests = ((weight.shape, weight_digest(weight.shape, [weight])) for weight in weights)
    return identity_of(architecture, digests)


def require_same_model(expected: ModelIdentity, found: ModelIdentity) -> None:
    """Refuse to measure or write with another model than the one that was profiled.

    Args:
        expected: Of the profile or the plan.
        found: Of the model at hand, over the same layers.

    Raises:
        InvalidInputError: They differ; both are named.

    Example:
        >>> one, other = (identity_of(name, [((2, 2), weight_digest((2, 2), [np.full((2, 2), value)]))])
        ...               for name, value in (("Bert", 1.0), ("Bert", 2.0)))
        >>> require_same_model(one, one)
    """
    if expected.same(found):
        return
    what = "shapes" if expected.shapes_sha256 != found.shapes_sha256 else "weights"
    detail = (
        f"this is another model than the one that was profiled, its {what} differ: expected {expected.text()}; got "
        f"{found.text()}; give the model of the profile, or insist with --other-model (in Python: pass the plan's "
        "assignment alone)"
    )
    raise InvalidInputError(Fault("/model", detail))
