"""How codes are chosen: to the nearest, with searched scales, or with compensated errors.

Formats say what can be stored; a :class:`Rounding` says which of the storable weights is taken. Every choice gives
codes and scales of the same format and the same bytes, so that backends need not know which one was made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer, unknown
from quantize.formats import StorageFormat
from quantize.rounding.gptq import compensate
from quantize.rounding.moments import Moments, matrices, output_errors, shape_fault
from quantize.rounding.nearest import Float32Array, by_codec, importance_missing, quantize, round_trip
from quantize.rounding.quantized import Quantized
from quantize.rounding.scale_search import search

METHODS = ("nearest", "scale_search", "gptq")


@dataclass(frozen=True)
class Rounding:
    """How the weights of a plan are rounded.

    Attributes:
        method: ``nearest``; ``scale_search`` (:mod:`quantize.rounding.scale_search`), weighted by the moments where
        there are
            any; ``gptq`` (:mod:`quantize.rounding.gptq`), which needs moments.
        steps: Points of the grid on which scales are searched; for ``gptq`` 0 spans each group instead.
        damping: For ``gptq``: what is added to the diagonal of a moment, as a share of its mean.
        act_order: For ``gptq``: whether columns with the largest second moments go first.

    Raises:
        InvalidInputError: A field is out of its range.

    Example:
        >>> Rounding("gptq").damping
        0.01
    """

    method: str = "nearest"
    steps: int = 46
    damping: float = 0.01
    act_order: bool = False

    def __post_init__(self) -> None:
        faults = []
        if self.method not in METHODS:
            faults.append(Fault("/rounding/method", unknown(self.method, METHODS, "rounding")))
        least = 0 if self.method == "gptq" else 1
        if self.steps < least:
            faults.append(Fault("/rounding/steps", f"expected at least {least}, got {self.steps}"))
        if not (self.damping > 0 and math.isfinite(self.damping)):
            faults.append(Fault("/rounding/damping", f"expected a positive number, got {self.damping}"))
        if faults:
            raise InvalidInputError(*faults)


NEAREST = Rounding()


def rounded(
    weight: Float32Array, fmt: StorageFormat, rounding: Rounding = NEAREST, moment: ArrayLike | None = None
) -> Quantized:
    r"""Round a weight to integer codes.

    ``gptq`` keeps, for each row, whichever of its own and the nearest codes gives the smaller
    :math:`\Delta w H \Delta w^\top`, so that the error in the output never grows over that of plain rounding.

    Args:
        weight: Linear (out, in), Conv (out, in, kernel…) or Embedding (entries, width) weight.
        rounding: How.
        moment: Second moment of the inputs; see :mod:`quantize.rounding.moments` for its shape.

    Returns:
        Codes and scales.

    Raises:
        InvalidInputError: The weight cannot be stored in the format, or the moment is missing or does not fit.

    Example:
        >>> from quantize.formats import parse_format
        >>> weight = np.array([[-2.0, 0.4, 0.4, 0.4]], dtype=np.float32)
        >>> rounded(weight, parse_format("int2"), Rounding("gptq", steps=0), np.ones((4, 4))).codes.tolist()
        [[[-2, 0, 1, 0]]]
    """
    if rounding.method == "nearest":
        return quantize(weight, fmt)
    if (reason := moment_fault(weight.shape, rounding, moment)) is not None:
        raise InvalidInputError(Fault("/moment", reason))
    parts = matrices(moment)
    if parts is None:
        return search(weight, fmt, rounding.steps) if rounding.steps else quantize(weight, fmt)
    pieces = np.split(np.asarray(weight), len(parts))
    return _joined([_one(piece, fmt, rounding, part) for piece, part in zip(pieces, parts, strict=True)])


def restored(
    weight: Float32Array, fmt: StorageFormat, rounding: Rounding = NEAREST, moment: ArrayLike | None = None
) -> Float32Array:
    """The weight as it will be after storing it in a format.

    Args:
        fmt: Any format; floating-point formats have one way of rounding only, and formats with a codec their own, which
            takes the diagonal of the moment as importance unless the rounding is ``nearest``. With ``nearest`` only
            those do that need one.
        rounding: How.
        moment: As for :func:`rounded`.

    Returns:
        A weight of the same shape.

    Raises:
        InvalidInputError: As for :func:`rounded`.
    """
    if fmt.codec is not None:
        return _by_codec(weight, fmt, rounding, moment)
    if fmt.floating:
        return round_trip(weight, fmt)
    return rounded(weight, fmt, rounding, moment).dequantize()


def moment_faults(
    shapes: Mapping[str, tuple[int, ...]],
    plan: Mapping[str, StorageFormat],
    rounding: Rounding,
    moments: Moments | None,
) -> list[Fault]:
    """Collect the layers whose moments are missing or do not fit, before anything is rounded.

    Args:
        shapes: Layer → shape of its weight.
        plan: Layer → format.
        moments: Layer → moment.

    Returns:
        One fault per layer.
    """
    given = moments or {}
    reasons = {
        layer: importance_fault(shapes[layer], fmt, rounding, given.get(layer))
        if fmt.codec is not None
        else moment_fault(shapes[layer], rounding, given.get(layer))
        for layer, fmt in plan.items()
        if not fmt.floating
    }
    return [Fault(pointer(("moments", layer)), reason) for layer, reason in reasons.items() if reason]


def moment_fault(shape: tuple[int, ...], rounding: Rounding, moment: ArrayLike | None) -> str | None:
    """Say why a moment cannot be used.

    Args:
        rounding: How it is rounded.

    Returns:
        The reason, or None where it can.
    """
    if rounding.method == "nearest":
        return None
    if moment is None:
        return (
            "gptq needs the second moment of the layer's inputs, got none"
            if rounding.method == "gptq"
            else None
        )
    return shape_fault(shape, moment)


def importance_fault(
    shape: tuple[int, ...], fmt: StorageFormat, rounding: Rounding, moment: ArrayLike | None
) -> str | None:
    """Say why a moment cannot be the importance that a format with a codec takes.

    Args:
        rounding: How it is rounded.

    Returns:
        The reason, or None where it can, or where none is needed.
    """
    assert fmt.codec is not None
    if moment is not None and takes_importance(fmt, rounding):
        reason = shape_fault(shape, moment)
        if reason is not None:
            return reason
    missing = matrices(moment) is None
    return importance_missing(fmt) if missing and fmt.codec.needs_importance else None


def takes_importance(fmt: StorageFormat, rounding: Rounding) -> bool:
    """Whether rounding to a format looks at second moments.

    Args:
        fmt: Any format.
        rounding: How.

    Returns:
        True for ``scale_search`` and ``gptq`` of whatever is no float, and for formats that need an importance.

    Example:
        >>> from quantize.formats import parse_format
        >>> [takes_importance(parse_format(name), NEAREST) for name in ("int4", "q4_k", "iq2_xs")]
        [False, False, True]
    """
    if fmt.codec is not None and fmt.codec.needs_importance:
        return True
    return rounding.method != "nearest" and not fmt.floating


def importances(
    shape: tuple[int, ...], fmt: StorageFormat, rounding: Rounding, moment: ArrayLike | None
) -> list[Float32Array | None]:
    """What each group of rows of a weight has as importance: the diagonals of the moment.

    Args:
        fmt: A format with a codec.
        rounding: How it is rounded.
        moment: Second moment of the inputs.

    Returns:
        One (row,) per group of rows, None where nothing is known or asked for.

    Raises:
        InvalidInputError: The moment is missing or does not fit.
    """
    if (reason := importance_fault(shape, fmt, rounding, moment)) is not None:
        raise InvalidInputError(Fault("/moment", reason))
    parts = matrices(moment) if takes_importance(fmt, rounding) else None
    return [None] if parts is None else [np.diag(part).astype(np.float32) for part in parts]


def _by_codec(
    weight: Float32Array, fmt: StorageFormat, rounding: Rounding, moment: ArrayLike | None
) -> Float32Array:
    parts = importances(weight.shape, fmt, rounding, moment)
    pieces = np.split(np.asarray(weight), len(parts))
    return np.concatenate([by_codec(piece, fmt, part) for piece, part in zip(pieces, parts, strict=True)])


def _one(
    weight: Float32Array, fmt: StorageFormat, rounding: Rounding, moment: NDArray[np.float64]
) -> Quantized:
    if rounding.method == "scale_search":
        return search(weight, fmt, rounding.steps, np.diag(moment))
    near = quantize(weight, fmt)
    made = compensate(
        weight,
        fmt,
        moment,
        damping=rounding.damping,
        act_order=rounding.act_order,
        search_steps=rounding.steps or None,
    )
    keep = output_errors(near.dequantize() - weight, moment) <= output_errors(
        made.dequantize() - weight, moment
    )
    return Quantized(
        np.where(keep[:, None, None], near.codes, made.codes),
        np.where(keep[:, None], near.scales, made.scales),
        np.where(keep[:, None], near.zeros, made.zeros),
        near.shape,
    )


def _joined(parts: list[Quantized]) -> Quantized:
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    codes, scales, zeros = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "scales", "zeros")
    )
    return Quantized(codes, scales, zeros, shape)
