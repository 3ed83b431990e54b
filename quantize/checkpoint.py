"""Checkpoints in safetensors: names, shapes and weights without torch."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from allocator import Fault, InvalidInputError
from quantize.rounding import Float32Array

_LARGEST_HEADER = 100 * 2**20
_TYPES: dict[str, Any] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        file: The file.
        dtype: Its type as safetensors names it.
        shape: Its shape.
        start: First byte in the file.
        end: Byte after the last.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def stored_weights(folder: Path) -> dict[str, Stored]:
    """Find the weights of a checkpoint.

    Args:
        folder: Folder with ``*.safetensors``, or one such file.

    Returns:
        Layer → its weight, for weights of two and more dimensions.

    Raises:
        InvalidInputError: There is no checkpoint, or its header cannot be read.
    """
    files = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise InvalidInputError(Fault("/model", f"expected *.safetensors in {str(folder)!r}, found none"))
    return {
        name.removesuffix(".weight"): tensor
        for file in files
        for name, tensor in _header(file).items()
        if name.endswith(".weight") and len(tensor.shape) > 1
    }


def load_weight(tensor: Stored) -> Float32Array:
    """Read a weight.

    Args:
        tensor: Where it is.

    Returns:
        The weight in single precision.

    Raises:
        InvalidInputError: It is not in floating point, or the file does not hold all of it.
    """
    if tensor.dtype not in _TYPES:
        detail = f"{str(tensor.file)!r} holds {tensor.dtype}; known: {', '.join(_TYPES)}"
        raise InvalidInputError(Fault("/model", detail))
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.start)
        data = stream.read(tensor.end - tensor.start)
    size = np.dtype(_TYPES[tensor.dtype]).itemsize
    if len(data) != int(np.prod(tensor.shape)) * size:
        raise InvalidInputError(
            Fault("/model", f"{str(tensor.file)!r} does not hold as much as its header says")
        )
    return np.frombuffer(data, dtype=_TYPES[tensor.dtype]).astype(np.float32).reshape(tensor.shape)


def _header(file: Path) -> dict[str, Stored]:
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length <= _LARGEST_HEADER else None
        tensors = {name: item for name, item in header.items() if name != "__metadata__"}  # type: ignore[union-attr]
        begin = 8 + length
        return {
            name: Stored(
                file,
                item["dtype"],
                tuple(item["shape"]),
                *(begin + offset for offset in item["data_offsets"]),
            )
            for name, item in tensors.items()
        }
    except (OSError, ValueError, struct.error, AttributeError, KeyError, TypeError) as error:
        detail = f"{str(file)!r} is no safetensors file: {error}"
        raise InvalidInputError(Fault("/model", detail)) from error
