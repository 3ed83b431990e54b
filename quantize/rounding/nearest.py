r"""Round to nearest: the reference that tables are measured with and that every backend reproduces bit for bit.

Symmetric, b bits, for each group of weights w of a row, with its scale s of either sign:

.. math:: q = \operatorname{clip}\big(\operatorname{round}(w \cdot \tfrac{1}{s}), -2^{b-1}, 2^{b-1} - 1\big), \qquad
          \hat w = q \cdot s

:mod:`quantize.rounding.scales` says which s. Asymmetric: the range is stretched to contain zero,
:math:`s = (\max - \min) / (2^b - 1)`, and codes are offset by the zero point
:math:`z = \operatorname{round}(-\min \cdot \tfrac{1}{s})`. One bit is the sign of a weight, :math:`\hat w = \pm s` with
:math:`s = \overline{|w|}`. Scales are stored in half precision, and codes are chosen at the scale that is stored.

A scale below zero is a number like any other to the runtimes: ONNX Runtime, torchao and compressed-tensors multiply
with it; llama.cpp writes such scales itself, and so does auto-round into the checkpoints that servers run.
"""

from __future__ import annotations

import numpy as np

from allocator import Fault, InvalidInputError
from quantize.formats import StorageFormat, flat_shape
from quantize.plain_floats import PLAIN_FLOATS
from quantize.rounding.codes import Float32Array as Float32Array
from quantize.rounding.codes import code_range, group_sizes, grouped, half, is_sign, nearest_codes
from quantize.rounding.quantized import Quantized
from quantize.rounding.scales import chosen, reaching, spanning
from quantize.rounding.small_floats import scaled

_LARGEST = {"fp16": 65504.0, "bf16": 255 / 128 * 2.0**127, "fp32": float(np.finfo(np.float32).max)}
#: Weights that are rounded at a time: what is computed with them stays in the processor's cache.
_PART = 2**16


def quantize(weight: Float32Array, fmt: StorageFormat) -> Quantized:
    """Round a weight to integer codes.

    Args:
        weight: Linear (out, in), Conv (out, in, kernel…) or Embedding (entries, width) weight.

    Returns:
        Codes and scales.

    Raises:
        InvalidInputError: The weight cannot be stored in the format; see :func:`refusal`.

    Example:
        >>> from quantize.formats import parse_format
        >>> rounded = quantize(np.array([[3.0, -1.5, 0.4, 0.0]], dtype=np.float32), parse_format("int2"))
        >>> rounded.scales.tolist(), rounded.codes.tolist(), rounded.dequantize().tolist()
        ([[-1.5]], [[[-2, 1, 0, 0]]], [[3.0, -1.5, -0.0, -0.0]])
    """
    _require_storable(weight, fmt)
    groups = grouped(weight, fmt)  # (rows, groups, size)
    sizes = group_sizes(flat_shape(weight.shape)[1], fmt)
    codes = np.empty(groups.shape, dtype=np.int16)
    scales, zeros = np.empty(groups.shape[:2], dtype=np.float16), np.empty(groups.shape[:2], dtype=np.int16)
    rows = max(1, _PART // max(groups.shape[1] * groups.shape[2], 1))
    for start in range(0, len(groups), rows):
        part = slice(start, start + rows)
        codes[part], scales[part], zeros[part] = chosen(groups[part], fmt, sizes)
    return Quantized(codes, scales, zeros, tuple(weight.shape))


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


def round_inputs(values: Float32Array, fmt: StorageFormat) -> Float32Array:
    r"""Numbers that flow, as a kernel rounds them on the way: its scales just span a group, and nothing is tried.

    Args:
        values: (rows, row); each row has scales of its own.
        fmt: Any format. Symmetric integers of two bits and more have the scale :math:`\max |x| / ((2^b - 1) / 2)`;
            a format with a codec is rounded as that rounds activations; all others as weights are.

    Returns:
        Numbers of the same shape.

    Raises:
        InvalidInputError: The numbers cannot be stored in the format.

    Example:
        >>> from quantize.formats import parse_format
        >>> round_inputs(np.array([[3.0, -1.0, 0.4, 0.0]], dtype=np.float32), parse_format("int2")).tolist()
        [[2.0, 0.0, 0.0, 0.0]]
    """
    own = None if fmt.codec is None else fmt.codec.round_activations
    if own is not None:
        return own(values)
    if fmt.codec is not None or fmt.floating or not fmt.symmetric or is_sign(fmt):
        return round_trip(values, fmt)
    _require_storable(values, fmt)
    groups = grouped(values, fmt)
    wide, zeros = spanning(groups, fmt)
    scales = half(wide)
    codes = nearest_codes(groups, scales[..., None], zeros[..., None], fmt)
    return Quantized(codes, scales, zeros.astype(np.int16), tuple(values.shape)).dequantize()


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
    largest = max(-low, high)
    if fmt.floating:
        most = _LARGEST[fmt.name]
        if largest > most:
            return f"weights reach {largest:g}, beyond the {most:g} of {fmt.name}; use bf16 or fp32 for this layer"
        return None
    if largest > _LARGEST["fp16"] / 2 and _largest_step(weight, fmt) > _LARGEST["fp16"]:
        return f"weights reach {largest:g}, which needs scales beyond half precision; use bf16 or fp32"
    return None


def _largest_step(weight: Float32Array, fmt: StorageFormat) -> float:
    # The smallest distance between neighbouring codes that every group can do with.
    groups = grouped(weight, fmt).astype(np.float64)
    if is_sign(fmt):
        means, _ = reaching(groups.astype(np.float32), fmt, group_sizes(flat_shape(weight.shape)[1], fmt))
        return 2 * float(means.max())
    low, high = np.minimum(groups.min(axis=2), 0), np.maximum(groups.max(axis=2), 0)
    least, most = code_range(fmt)
    if fmt.symmetric:
        return float(np.maximum(-low, high).max()) / -least
    return float((high - low).max()) / (most - least)


def _require_storable(weight: Float32Array, fmt: StorageFormat) -> None:
    reason = refusal(weight, fmt)
    if reason is not None:
        raise InvalidInputError(Fault("/weight", reason))
