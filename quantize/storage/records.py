"""An append-only file of checked records: what is in it was written whole, by the run that its header describes.

One record is one line, ``<CRC-32 of the rest> <JSON>``; the first describes the run. A record is on the disk
(``fsync``) before the next piece begins, so killing the process loses nothing, and a power cut at most the record
that was being written. What follows the last line break is such a torn record: it is dropped. A whole line that does
not check is damage: the file is refused with the offset of the line and left as it is.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allocator import Fault, InvalidInputError
from allocator.knapsack.problem import FloatArray

#: What tells a record from the others of its file.
Address = tuple[str, ...]

_VERSION = 1


@dataclass(frozen=True)
class Records:
    """An open file of records.

    Attributes:
        found: The records that were there when it was opened.
        descriptor: The open file.
    """

    found: Mapping[Address, FloatArray]
    descriptor: int

    def append(self, address: Address, piece: FloatArray) -> None:
        """Add a record, and wait until it is on the disk.

        Args:
            piece: Its numbers, kept bit for bit.
        """
        _write(self.descriptor, _line(_encoded(address, piece)))


@contextmanager
def opened(path: Path, header: Mapping[str, Any]) -> Iterator[Records]:
    """Open a file of records, or begin one; nobody else can have it open.

    Args:
        header: What the run is, as JSON values; a file of another run is refused.

    Yields:
        The records.

    Raises:
        InvalidInputError: The file cannot be read or written, is in use, is damaged or belongs to another run; nothing
            in it is changed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise InvalidInputError(_fault(path, f"cannot be written: {error.strerror}")) from error
    try:
        _lock(path, descriptor)
        content = path.read_bytes()
        first = _line({"bitalloc_journal": _VERSION, **header})
        found, whole = _read(path, content, first)
        if whole < len(content):
            os.ftruncate(descriptor, whole)
        if not whole:
            _write(descriptor, first)
        yield Records(found, descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    if sys.platform == "win32":  # no advisory locks; two runs would have to be told apart by their files
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InvalidInputError(_fault(path, "is in use by another run")) from error


def _write(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]
    os.fsync(descriptor)


def _line(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read(path: Path, content: bytes, first: bytes) -> tuple[dict[Address, FloatArray], int]:
    # The records, and how many bytes of the file they and the header take.
    whole = content.rfind(b"\n") + 1
    if not whole:
        if not first.startswith(content):
            raise InvalidInputError(_fault(path, "is not a journal: expected its header at byte 0"))
        return {}, 0
    found: dict[Address, FloatArray] = {}
    offset = 0
    for line in content[:whole].splitlines(keepends=True):
        record = _checked(path, line, offset)
        if offset == 0:
            _require_same(path, record, json.loads(first.partition(b" ")[2]))
        else:
            address, piece = _decoded(path, record, offset)
            found[address] = piece
        offset += len(line)
    return found, whole


def _checked(path: Path, line: bytes, offset: int) -> dict[str, Any]:
    stated, _, text = line.rstrip(b"\n").partition(b" ")
    if not text or stated != b"%08x" % zlib.crc32(text):
        detail = (
            f"is damaged: the line at byte {offset} does not match its checksum; restore it or move it away"
        )
        raise InvalidInputError(_fault(path, detail))
    try:
        record = json.loads(text)
    except ValueError as error:
        raise InvalidInputError(_fault(path, f"holds something that is not JSON at byte {offset}")) from error
    return record if isinstance(record, dict) else {}


def _require_same(path: Path, came: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    names = sorted(set(came) | set(expected))
    wrong = [name for name in names if came.get(name) != expected.get(name)]
    if wrong:
        said = "; ".join(
            f"{name} is {_short(came.get(name))}, not {_short(expected.get(name))}" for name in wrong
        )
        detail = f"belongs to another run (header at byte 0): {said}; choose another file for this run"
        raise InvalidInputError(_fault(path, detail))


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _encoded(address: Address, piece: FloatArray) -> dict[str, Any]:
    plain = np.ascontiguousarray(piece)
    return {
        "address": list(address),
        "dtype": plain.dtype.str,
        "shape": list(piece.shape),
        "data": base64.b64encode(plain.tobytes()).decode(),
    }


def _decoded(path: Path, record: Mapping[str, Any], offset: int) -> tuple[Address, FloatArray]:
    try:
        data = base64.b64decode(record["data"], validate=True)
        piece = np.frombuffer(data, np.dtype(record["dtype"])).reshape(record["shape"]).copy()
        return tuple(map(str, record["address"])), piece
    except (KeyError, TypeError, ValueError) as error:
        detail = f"holds something that is not a record at byte {offset}: {error}"
        raise InvalidInputError(_fault(path, detail)) from error


def _fault(path: Path, detail: str) -> Fault:
    return Fault("/journal", f"{str(path)!r} {detail}")
