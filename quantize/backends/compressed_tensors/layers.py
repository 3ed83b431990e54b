"""Layers as compressed-tensors stores them: integers packed without gaps, whole bytes, small floats with scales."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantize.checkpoints.safetensors import Tensor
from quantize.formats import DYNAMIC, StorageFormat
from quantize.plain_floats import PLAIN_FLOATS
from quantize.rounding.methods import Rounding, rounded
from quantize.rounding.nearest import Float32Array, round_trip
from quantize.rounding.packing import packed
from quantize.rounding.quantized import Quantized
from quantize.rounding.small_floats import bit_patterns, exponents, scaled


def compressed_layer(
    layer: str, weight: Float32Array, fmt: StorageFormat, rounding: Rounding, moment: ArrayLike | None
) -> dict[str, Tensor]:
    """Store one layer.

    Args:
        weight: (rows, row); plain formats take any shape.
        fmt: Its format, with groups that divide the row.
        moment: Second moment of the inputs, for roundings that use it.

    Returns:
        Name → tensor. Codes are ``weight_packed`` in 32-bit words beside scales in half precision; for
        ``int8-dynamic`` one byte each; for ``fp8-e4m3`` one byte each beside scales in single precision; for ``mxfp8``
        and ``mxfp4`` one byte or half of one beside exponents, offset by 127.
    """
    if fmt.plain:
        plain = PLAIN_FLOATS[fmt.name]
        return {f"{layer}.weight": _tensor(round_trip(weight, fmt).astype(plain.dtype), plain.stored_as)}
    if fmt.floating:
        return _small_floats(layer, scaled(weight, fmt), fmt)
    made = rounded(weight, fmt, rounding, moment)
    return _whole_bytes(layer, made) if fmt.name == DYNAMIC else _packed(layer, made, fmt)


def _small_floats(layer: str, made: Quantized, fmt: StorageFormat) -> dict[str, Tensor]:
    codes = bit_patterns(made).reshape(made.shape)
    scales = _tensor(exponents(made), "U8") if fmt.scale_bits == 8 else _tensor(made.scales, "F32")
    if fmt.bits == 4:
        weight = {f"{layer}.weight_packed": _tensor(packed(codes, 4), "U8")}
    else:
        weight = {f"{layer}.weight": _tensor(codes, "F8_E4M3")}
    return weight | {f"{layer}.weight_scale": scales}


def _whole_bytes(layer: str, made: Quantized) -> dict[str, Tensor]:
    codes = made.codes.reshape(made.shape).astype(np.int8)
    return {
        f"{layer}.weight": _tensor(codes, "I8"),
        f"{layer}.weight_scale": _tensor(made.scales, "F16"),
    }


def _packed(layer: str, made: Quantized, fmt: StorageFormat) -> dict[str, Tensor]:
    rows, row = made.shape
    middle = 0 if not fmt.symmetric else 2 ** (fmt.bits - 1)
    codes = made.codes.reshape(rows, -1)[:, :row] + middle
    tensors = {
        f"{layer}.weight_packed": _tensor(_words(codes, fmt.bits), "I32"),
        f"{layer}.weight_scale": _tensor(made.scales, "F16"),
        f"{layer}.weight_shape": _tensor(np.array(made.shape, dtype=np.int64), "I64"),
    }
    if not fmt.symmetric:  # zero points are packed along the rows
        zeros = np.ascontiguousarray(_words(made.zeros.T, fmt.bits).T)
        tensors[f"{layer}.weight_zero_point"] = _tensor(zeros, "I32")
    return tensors


def _words(codes: NDArray[np.int16], bits: int) -> NDArray[np.int32]:
    data = packed(codes, bits)
    whole = np.pad(data, ((0, 0), (0, -data.shape[1] % 4)))
    return np.ascontiguousarray(whole).view("<i4")


def _tensor(array: NDArray[Any], kind: str) -> Tensor:
    return Tensor(kind, array.shape, array.tobytes())
