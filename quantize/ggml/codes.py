"""Codes of ggml's types: chosen by ggml, and what they stand for.

``codes`` are the bytes that ``ggml_quantize_chunk`` writes: those of ``llama-quantize`` with the same importance
matrix. Rows are independent of each other, so that threads change nothing.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from allocator import Fault, InvalidInputError
from quantize.ggml.library import knows, library, version
from quantize.ggml.types import HALF, BlockType, fitting

_Float32Array: TypeAlias = NDArray[np.float32]
_Bytes: TypeAlias = NDArray[np.uint8]
#: Weights that a thread takes at a time, as in llama-quant.cpp.
_CHUNK = 32 * 512


def codes(weight: _Float32Array, name: str, importance: _Float32Array | None = None) -> _Bytes:
    """Quantize a weight.

    Args:
        weight: Rows along the first dimension.
        name: Type of ggml.
        importance: (row,) positive numbers, one for each weight of a row; see :class:`quantize.codec.Codec`.

    Returns:
        (rows, bytes of a row), in the type or in what it falls back to.

    Raises:
        InvalidInputError: Rows do not fit, the importance is missing or none, the installed ggml lacks the type, or a
            scale is beyond half precision.
        MissingPackageError: ggml is not installed.
    """
    row = math.prod(weight.shape[1:])
    rows = np.ascontiguousarray(weight, dtype=np.float32).reshape(len(weight), row)
    kind = fitting(name, rows.shape[1])
    if kind is HALF:
        return rows.astype(np.float16).view(np.uint8)
    require_type(kind)
    if importance is None and kind.needs_importance:
        detail = f"{kind.name} needs an importance for each input, and there is none; llama-quantize refuses it too"
        raise InvalidInputError(Fault("/importance", detail))
    weights = None if importance is None else _positive(importance, rows.shape[1])
    made = np.empty((len(rows), rows.shape[1] // kind.block * kind.block_bytes), dtype=np.uint8)
    chunk, ggml = library().ggml_quantize_chunk, library()
    where = None if weights is None else weights.ctypes.data

    def quantize(first: int, count: int) -> None:
        start = first * rows.shape[1]
        chunk(kind.number, rows.ctypes.data, made.ctypes.data, start, count, rows.shape[1], where)

    _shared_out(quantize, rows.shape)
    if made.size and not ggml.ggml_validate_row_data(kind.number, made.ctypes.data, made.nbytes):
        detail = f"weights reach {np.abs(rows).max():g}, which needs scales beyond half precision; use bf16 or fp32"
        raise InvalidInputError(Fault("/weight", detail))
    return made


def values(made: _Bytes, name: str, shape: tuple[int, ...]) -> _Float32Array:
    """What codes stand for.

    Args:
        made: From :func:`codes`.
        name: The type that was asked for.

    Returns:
        A weight of that shape.

    Raises:
        InvalidInputError: Rows do not fit.
        MissingPackageError: ggml is not installed.
    """
    row = math.prod(shape[1:])
    kind = fitting(name, row)
    if kind is HALF:
        return np.ascontiguousarray(made).view(np.float16).astype(np.float32).reshape(shape)
    require_type(kind)
    content = np.ascontiguousarray(made)
    out = np.empty((len(content), row), dtype=np.float32)
    loaded = library()
    # ggml names the function after the type, whose K is a capital.
    decode = loaded[f"dequantize_row_{loaded.ggml_type_name(kind.number).decode()}"]
    decode.argtypes, decode.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None

    def dequantize(first: int, count: int) -> None:
        decode(content[first:].ctypes.data, out[first:].ctypes.data, count * row)

    _shared_out(dequantize, out.shape)
    return out.reshape(shape)


def round_trip(name: str, weight: _Float32Array, importance: _Float32Array | None = None) -> _Float32Array:
    """The weight as it will be after storing it in a type.

    Args:
        name: Type of ggml.
        weight: Rows along the first dimension.
        importance: As for :func:`codes`.

    Returns:
        A weight of the same shape.

    Raises:
        InvalidInputError: As for :func:`codes`.
        MissingPackageError: ggml is not installed.
    """
    return values(codes(weight, name, importance), name, tuple(weight.shape))


def require_type(kind: BlockType) -> None:
    """Refuse a type that the installed ggml lacks.

    Raises:
        InvalidInputError: It has no such type, or one of other sizes.
        MissingPackageError: ggml is not installed.
    """
    if not knows(kind):
        raise InvalidInputError(
            Fault("/formats", f"the installed ggml, {version()}, has no type {kind.name}")
        )


def _positive(importance: _Float32Array, row: int) -> _Float32Array:
    given = np.asarray(importance, dtype=np.float64)
    if given.shape != (row,):
        raise InvalidInputError(
            Fault("/importance", f"expected ({row},), one for each input; got {given.shape}")
        )
    if not np.isfinite(given).all() or given.min() < 0 or given.max() <= 0:
        detail = "expected numbers that are finite, not negative and not all zero"
        raise InvalidInputError(Fault("/importance", detail))
    # An input that was never seen is not one that costs nothing: it counts like the least one that was.
    seen = np.where(given > 0, given, given[given > 0].min())
    return np.ascontiguousarray(np.maximum(seen / seen.mean(), np.finfo(np.float32).tiny), dtype=np.float32)


def _shared_out(work: Callable[[int, int], None], shape: tuple[int, ...]) -> None:
    rows, row = shape
    if not rows * row:
        return
    step = max(1, math.ceil(_CHUNK / row))
    starts = range(0, rows, step)
    if len(starts) == 1:
        work(0, rows)
        return
    with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1)) as pool:
        for done in [pool.submit(work, first, min(step, rows - first)) for first in starts]:
            done.result()
