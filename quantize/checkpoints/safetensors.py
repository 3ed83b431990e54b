"""Checkpoints in safetensors: names, shapes and weights without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from allocator import Fault, InvalidInputError

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

    def read(self) -> bytes:
        """The bytes of the tensor.

        Returns:
            As many as the header says.

        Raises:
            InvalidInputError: The file does not hold all of them.
        """
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            data = stream.read(self.end - self.start)
        if len(data) != self.end - self.start:
            raise InvalidInputError(_too_short(self.file))
        return data


def stored_weights(folder: Path) -> dict[str, Stored]:
    """Find the weights of a checkpoint.

    Args:
        folder: Folder with ``*.safetensors``, or one such file.

    Returns:
        Layer → its weight, for weights of two and more dimensions.

    Raises:
        InvalidInputError: There is no checkpoint, or its header cannot be read.
    """
    return {
        name.removesuffix(".weight"): tensor
        for name, tensor in stored_tensors(folder).items()
        if name.endswith(".weight") and len(tensor.shape) > 1
    }


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Find everything in a checkpoint.

    Args:
        folder: Folder with ``*.safetensors``, or one such file.

    Returns:
        Name → tensor.

    Raises:
        InvalidInputError: There is no checkpoint, or its header cannot be read.
    """
    files = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise InvalidInputError(Fault("/model", f"expected *.safetensors in {str(folder)!r}, found none"))
    return {name: tensor for file in files for name, tensor in _header(file).items()}


@dataclass(frozen=True)
class Tensor:
    """A tensor to be stored.

    Attributes:
        dtype: Its type as safetensors names it.
        shape: Its shape.
        data: Its bytes, little end first, last dimension fastest.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file.

    Args:
        path: File to write.
        tensors: Name → tensor.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.writelines(tensor.data for tensor in tensors.values())


def _too_short(file: Path) -> Fault:
    return Fault("/model", f"{str(file)!r} does not hold as much as its header says")


def load_weight(tensor: Stored) -> NDArray[np.float32]:
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
    data = tensor.read()
    if len(data) != int(np.prod(tensor.shape)) * np.dtype(_TYPES[tensor.dtype]).itemsize:
        raise InvalidInputError(_too_short(tensor.file))
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
