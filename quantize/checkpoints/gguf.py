"""GGUF, as much of it as an importance matrix needs: names and 32-bit floats.

Source: ggml, ``docs/gguf.md``, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _F32 = 8, 9, 0
#: Name, shape, type and place of a tensor.
Info = tuple[str, tuple[int, ...], int, int]


def read_gguf(content: bytes) -> dict[str, NDArray[np.float32]]:
    """Read the 32-bit tensors of a file.

    Returns:
        Name → tensor, with the slowest dimension first.

    Raises:
        ValueError: It is no such file, or it ends too soon.
    """
    magic, version = struct.unpack_from("<4sI", content)
    if magic != b"GGUF" or version not in {2, 3}:
        raise ValueError(f"it is GGUF of version {version}; known: 2 and 3")
    count, pairs = struct.unpack_from("<QQ", content, 8)
    at, alignment = 24, 32
    for _ in range(pairs):
        key, at = _text(content, at)
        kind, at = _number(content, at, "<I")
        if key == "general.alignment":
            alignment = max(_number(content, at, "<I")[0], 1)
        at = _after(content, at, kind)
    infos = []
    for _ in range(count):
        info, at = _info(content, at)
        infos.append(info)
    start = -(-at // alignment) * alignment
    return {
        name: np.frombuffer(content, "<f4", count=math.prod(shape), offset=start + offset).reshape(shape)
        for name, shape, kind, offset in infos
        if kind == _F32
    }


def _number(content: bytes, at: int, layout: str) -> tuple[int, int]:
    (value,) = struct.unpack_from(layout, content, at)
    return int(value), at + struct.calcsize(layout)


def _text(content: bytes, at: int) -> tuple[str, int]:
    length, at = _number(content, at, "<Q")
    if at + length > len(content):
        raise ValueError(f"a text would have {length} bytes")
    return content[at : at + length].decode(), at + length


def _after(content: bytes, at: int, kind: int) -> int:
    if kind == _STRING:
        return _text(content, at)[1]
    if kind == _ARRAY:
        inner, at = _number(content, at, "<I")
        length, at = _number(content, at, "<Q")
        if inner in _SIZES:
            return at + length * _SIZES[inner]
        for _ in range(length):
            at = _after(content, at, inner)
        return at
    if kind not in _SIZES:
        raise ValueError(f"a value would be of type {kind}")
    return at + _SIZES[kind]


def _info(content: bytes, at: int) -> tuple[Info, int]:
    name, at = _text(content, at)
    dimensions, at = _number(content, at, "<I")
    if dimensions > 4:
        raise ValueError(f"{name!r} would have {dimensions} dimensions")
    shape = struct.unpack_from(f"<{dimensions}Q", content, at)[::-1]
    kind, at = _number(content, at + 8 * dimensions, "<I")
    offset, at = _number(content, at, "<Q")
    return (name, shape, kind, offset), at
