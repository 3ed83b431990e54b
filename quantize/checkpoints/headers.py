"""The header of a safetensors file, checked against the file before anything is read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allocator import Fault, InvalidInputError

_LENGTH = 8  # bytes that say how long the header is
_LARGEST_HEADER = 100 * 2**20
#: Bits of a number, by the name of its type.
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4,
}  # fmt: skip


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
            InvalidInputError: The file does not hold all of them any more.
        """
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            data = stream.read(self.end - self.start)
        if len(data) != self.end - self.start:
            detail = f"{str(self.file)!r} does not hold as much as its header says; it has changed since"
            raise InvalidInputError(Fault("/model", detail))
        return data


def read_header(file: Path, where: str = "/model") -> dict[str, Stored]:
    """Read what a file holds.

    Args:
        file: A safetensors file.

    Returns:
        Name → tensor.

    Raises:
        InvalidInputError: It cannot be read, is cut short, or its header does not describe tensors.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH), "little")
            end = _LENGTH + length
            whole = size >= _LENGTH and end <= size and length <= _LARGEST_HEADER
            text = stream.read(length) if whole else b""
    except OSError as error:
        raise InvalidInputError(_fault(where, file, f"cannot be read: {error.strerror}")) from error
    if not whole:
        detail = f"is no safetensors file, or is cut short: its header ends at byte {end}, the file at {size}"
        raise InvalidInputError(_fault(where, file, detail))
    found: dict[str, Stored] = {}
    for name, entry in _object(text, where, file).items():
        if name != "__metadata__":
            described = _described(file, end, size, name, entry)
            if isinstance(described, str):
                raise InvalidInputError(_fault(where, file, described))
            found[name] = described
    return found


def _object(text: bytes, where: str, file: Path) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        detail = f"is no safetensors file: the header at byte {_LENGTH} is not JSON"
        raise InvalidInputError(_fault(where, file, detail)) from error
    if not isinstance(header, dict):
        detail = f"is no safetensors file: the header at byte {_LENGTH} is not a JSON object"
        raise InvalidInputError(_fault(where, file, detail))
    return header


def _fault(where: str, file: Path, detail: str) -> Fault:
    return Fault(where, f"{str(file)!r}: {detail}")


def _described(file: Path, start: int, size: int, name: str, entry: Any) -> Stored | str:  # noqa: ANN401
    try:
        shape = tuple(map(int, entry["shape"]))
        begin, end = map(int, entry["data_offsets"])
        dtype = str(entry["dtype"])
    except (KeyError, TypeError, ValueError) as error:
        return f"is no safetensors file: the header at byte {_LENGTH} does not describe {name!r}: {error!r}"
    if start + end > size:
        return f"is cut short: {name!r} ends at byte {start + end}, the file at {size}; copy it again"
    expected = math.prod(shape) * _BITS[dtype] // 8 if dtype in _BITS else end - begin
    if begin < 0 or end - begin != expected:
        return f"{name!r} at byte {start + begin} takes {end - begin} bytes; {dtype} {shape} takes {expected}"
    return Stored(file, dtype, shape, start + begin, start + end)
