r"""Round to nearest: the reference that tables are measured with and that every backend reproduces bit for bit.

Symmetric, b bits, for each group of weights w of a row:

.. math:: s = \frac{\max |w|}{(2^b - 1) / 2}, \qquad
          q = \operatorname{clip}\big(\operatorname{round}(w \cdot \tfrac{1}{s}), -2^{b-1}, 2^{b-1} - 1\big), \qquad
          \hat w = q \cdot \operatorname{fp16}(s)

Asymmetric: the range is stretched to contain zero, :math:`s = (\max - \min) / (2^b - 1)`, and codes are offset by the
zero point :math:`z = \operatorname{round}(-\min \cdot \tfrac{1}{s})`. Codes are chosen with the scale in single
precision, as torchao does; the scale is stored in half precision.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from allocator import Fault, InvalidInputError
from quantize.formats import StorageFormat, flat_shape
from quantize.plain_floats import PLAIN_FLOATS
from quantize.rounding.quantized import Quantized
from quantize.rounding.small_floats import scaled

Float32Array: TypeAlias = NDArray[np.float32]
_SMALLEST = np.finfo(np.float32).smallest_normal
_LARGEST = {"fp16": 65504.0, "bf16": 255 / 128 * 2.0**127, "fp32": float(np.finfo(np.float32).max)}


def quantize(weight: Float32Array, fmt: StorageFormat) -> Quantized:
    """Round a weight to integer codes.

    Args:
        weight: Linear (out, in), Conv (out, in, kernel…) or Embedding (entries, width) weight.
        fmt: An integer format.

    Returns:
        Codes and scales.

    Raises:
        InvalidInputError: The weight cannot be stored in the format; see :func:`refusal`.

    Example:
        >>> from quantize.formats import parse_format
        >>> rounded = quantize(np.array([[3.0, -1.0, 0.4, 0.0]], dtype=np.float32), parse_format("int2"))
        >>> rounded.codes.tolist(), rounded.dequantize().tolist()
        ([[[1, 0, 0, 0]]], [[2.0, 0.0, 0.0, 0.0]])
    """
    _require_storable(weight, fmt)
    groups = grouped(weight, fmt)  # (rows, groups, size)
    scales, zeros = full_range(groups, fmt)
    least, most = code_range(fmt)
    inverse = np.float32(1.0) / scales
    codes = np.clip(np.rint(groups * inverse[..., None]) + zeros[..., None], least, most)
    shape = tuple(weight.shape)
    return Quantized(codes.astype(np.int16), scales.astype(np.float16), zeros.astype(np.int16), shape)


def full_range(groups: Float32Array, fmt: StorageFormat) -> tuple[Float32Array, Float32Array]:
    """Scales and zero points that just span each group, in single precision.

    Args:
        groups: (rows, groups, size) weights.
        fmt: An integer format.

    Returns:
        (rows, groups) scales, none of them zero, and (rows, groups) whole zero points.
    """
    low, high = np.minimum(groups.min(axis=2), 0), np.maximum(groups.max(axis=2), 0)
    least, most = code_range(fmt)
    if fmt.symmetric:
        scales = np.maximum(-low, high) / np.float32((most - least) / 2)
    else:
        scales = (high - low) / np.float32(most - least)
    scales = np.maximum(scales, _SMALLEST)
    zeros = np.zeros_like(scales) if fmt.symmetric else np.rint(-low * (np.float32(1.0) / scales))
    return scales, zeros


def round_trip(weight: Float32Array, fmt: StorageFormat) -> Float32Array:
    """The weight as it will be after storing it in a format.

    Args:
        fmt: Any format.

    Returns:
        A weight of the same shape.

    Raises:
        InvalidInputError: The weight cannot be stored in the format; see :func:`refusal`.

    Example:
        >>> from quantize.formats import parse_format
        >>> round_trip(np.array([[0.1]], dtype=np.float32), parse_format("bf16")).tolist()
        [[0.10009765625]]
    """
    if fmt.codec is not None:
        return by_codec(weight, fmt)
    if not fmt.floating:
        return quantize(weight, fmt).dequantize()
    _require_storable(weight, fmt)
    if not fmt.plain:
        return scaled(weight, fmt).dequantize()
    return weight.astype(PLAIN_FLOATS[fmt.name].dtype).astype(np.float32)


def by_codec(
    weight: Float32Array, fmt: StorageFormat, importance: Float32Array | None = None
) -> Float32Array:
    """The weight as a format of its own makes it.

    Args:
        weight: Linear (out, in), Conv (out, in, kernel…) or Embedding (entries, width) weight.
        fmt: A format with a codec.
        importance: (row,), a positive number for each weight of a row.

    Returns:
        A weight of the same shape.

    Raises:
        InvalidInputError: The weight cannot be stored in the format, the format needs an importance and there is none,
            or its functions give another shape or numbers that are not finite.
    """
    assert fmt.codec is not None
    _require_storable(weight, fmt)
    if fmt.codec.needs_importance and importance is None:
        raise InvalidInputError(Fault("/importance", importance_missing(fmt)))
    made = np.asarray(fmt.codec.round_trip(weight, importance), dtype=np.float32)
    if made.shape != weight.shape or not np.isfinite(made).all():
        what = "numbers that are not finite" if made.shape == weight.shape else f"the shape {made.shape}"
        detail = f"the round trip of {fmt.name} gave {what} for a weight of {tuple(weight.shape)}"
        raise InvalidInputError(Fault("/formats", detail))
    return made


def importance_missing(fmt: StorageFormat) -> str:
    """Say what a format lacks.

    Args:
        fmt: A format that needs an importance.

    Returns:
        The reason.
    """
    return (
        f"{fmt.name} needs to know how much each input counts, which is the second moments of what a layer multiplies, "
        "and none are known here; give moments, or choose a format that needs none"
    )


def refusal(weight: Float32Array, fmt: StorageFormat) -> str | None:
    """Say why a weight cannot be stored in a format.

    Args:
        fmt: Any format.

    Returns:
        The reason, or None where it can.

    Example:
        >>> from quantize.formats import parse_format
        >>> refusal(np.array([[1e5]], dtype=np.float32), parse_format("fp16"))
        'weights reach 100000, beyond the 65504 of fp16; use bf16 or fp32 for this layer'
    """
    if fmt.block_size is not None and fmt.codec is None:
        tool = "ik_llama.cpp, which only its own tools round to"
        return f"{fmt.name} is a type of {tool}; export the plan to llama.cpp, or choose another"
    if not np.isfinite(weight).all():
        return "holds NaN or infinity; it cannot be quantized"
    if fmt.codec is not None:
        return None if fmt.codec.misfit is None else fmt.codec.misfit(tuple(weight.shape))
    low, high = float(min(weight.min(initial=0.0), 0.0)), float(max(weight.max(initial=0.0), 0.0))
    if fmt.floating and not fmt.plain:
        return None
    if fmt.floating:
        largest, most = max(-low, high), _LARGEST[fmt.name]
        if largest > most:
            return f"weights reach {largest:g}, beyond the {most:g} of {fmt.name}; use bf16 or fp32 for this layer"
        return None
    least, most_code = code_range(fmt)
    largest_scale = 2 * max(-low, high) / (most_code - least)
    if largest_scale > _LARGEST["fp16"] and not fmt.symmetric:
        groups = grouped(weight, fmt).astype(np.float64)
        spans = np.maximum(groups.max(axis=2), 0) - np.minimum(groups.min(axis=2), 0)
        largest_scale = float(spans.max()) / (most_code - least)
    if largest_scale > _LARGEST["fp16"]:
        return (
            f"weights reach {max(-low, high):g}, which needs scales beyond half precision; use bf16 or fp32"
        )
    return None


def _require_storable(weight: Float32Array, fmt: StorageFormat) -> None:
    reason = refusal(weight, fmt)
    if reason is not None:
        raise InvalidInputError(Fault("/weight", reason))


def code_range(fmt: StorageFormat) -> tuple[int, int]:
    """The least and the greatest code of an integer format.

    Args:
        fmt: An integer format.

    Returns:
        Both ends, included.

    Example:
        >>> from quantize.formats import parse_format
        >>> code_range(parse_format("int4")), code_range(parse_format("uint4"))
        ((-8, 7), (0, 15))
    """
    if fmt.symmetric:
        return -(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1) - 1
    return 0, 2**fmt.bits - 1


def grouped(weight: Float32Array, fmt: StorageFormat) -> Float32Array:
    """See a weight as groups that share a scale.

    Args:
        fmt: Its format.

    Returns:
        (rows, groups, size), the last group of a row padded with zeros.
    """
    rows, row = flat_shape(weight.shape)
    count, size = fmt.groups(row)
    flat = np.ascontiguousarray(weight, dtype=np.float32).reshape(rows, row)
    if count * size != row:
        flat = np.pad(flat, ((0, 0), (0, count * size - row)))
    return flat.reshape(rows, count, size)
