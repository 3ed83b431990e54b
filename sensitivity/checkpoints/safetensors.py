"""Safetensors checkpoints on disk, sharded or not: checked as a whole before anything is read, then read in parts.

Tensors are read rather than mapped into memory: pages of a mapping count as resident memory for as long as it is open.

Source: the format is described at https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_LENGTH = 8  # bytes that say how long the header is
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Slot:
    """Where a tensor lies.

    Attributes:
        file: The shard.
        dtype: How numbers are stored.
        shape: Shape of the tensor.
        offset: First byte in the file.
    """

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model.

    Attributes:
        folder: The folder.
        slots: Tensor name → where it lies.
    """

    folder: Path
    slots: Mapping[str, Slot]

    def read(self, name: str, first: int = 0, rows: int | None = None) -> Tensor:
        """Read a tensor, or some rows of it.

        Args:
            name: Its name.
            first: First row.
            rows: Number of rows; all from the first on when absent.

        Returns:
            The rows in single precision, in memory of their own.
        """
        slot = self.slots[name]
        width = math.prod(slot.shape[1:])
        count = slot.shape[0] - first if rows is None else min(rows, slot.shape[0] - first)
        offset = slot.offset + first * width * slot.dtype.itemsize
        raw = np.fromfile(slot.file, np.uint8, count * width * slot.dtype.itemsize, offset=offset)
        plain: Tensor = torch.from_numpy(raw).view(slot.dtype).reshape(count, *slot.shape[1:])
        return plain.to(torch.float32)

    def chunks(self, name: str, most: int) -> Iterator[Tensor]:
        """Read a tensor in slices of whole rows.

        Args:
            name: Its name.
            most: About how many numbers a slice may have.

        Yields:
            (rows, …) slices in single precision.
        """
        shape = self.slots[name].shape
        rows = max(1, most // math.prod(shape[1:]))
        for first in range(0, shape[0], rows):
            yield self.read(name, first, rows)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Find every tensor of a checkpoint, and make sure that all of them are whole.

    Args:
        folder: Folder with ``model.safetensors``, or with an index and the shards that it names.

    Returns:
        The checkpoint; nothing but headers has been read.

    Raises:
        InvalidInputError: A file is missing, cut short or damaged, or index and shards disagree; names the file with
            the offset, or the tensor.
    """
    index = folder / _INDEX
    if not index.exists():
        if not (folder / _SINGLE).is_file():
            detail = f"expected a folder with {_SINGLE} or {_INDEX}, got {str(folder)!r}"
            raise InvalidInputError(Fault("/checkpoint", detail))
        return Checkpoint(folder, _slots(folder / _SINGLE))
    placed = _weight_map(index)
    shards = {shard: _slots(_shard(folder, shard)) for shard in sorted(set(placed.values()))}
    lost = [name for name, shard in placed.items() if name not in shards[shard]]
    if lost:
        faults = (
            _fault(folder / placed[name], f"{name!r} is not in it, but {_INDEX} says so") for name in lost
        )
        raise InvalidInputError(*faults)
    return Checkpoint(folder, {name: shards[shard][name] for name, shard in placed.items()})


def require_tensors(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Make sure that a checkpoint holds a model.

    Args:
        checkpoint: The checkpoint.
        shapes: Name → shape of every tensor that the model needs.

    Raises:
        InvalidInputError: Tensors are missing or have another shape; names each.
    """
    faults = []
    for name, shape in shapes.items():
        where = pointer(("checkpoint", name))
        if name not in checkpoint.slots:
            faults.append(
                Fault(where, f"is missing from {str(checkpoint.folder)!r}; config.json asks for it")
            )
        elif checkpoint.slots[name].shape != shape:
            came = checkpoint.slots[name].shape
            faults.append(Fault(where, f"has shape {came}, but config.json asks for {shape}"))
    if faults:
        raise InvalidInputError(*faults)


def _weight_map(index: Path) -> dict[str, str]:
    try:
        placed = json.loads(index.read_text("utf-8"))["weight_map"]
        if not isinstance(placed, dict) or not all(isinstance(shard, str) for shard in placed.values()):
            raise TypeError(f"weight_map is a {type(placed).__name__}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        detail = f"expected JSON with a weight_map from tensor to file: {error}"
        raise InvalidInputError(_fault(index, detail)) from error
    return placed


def _shard(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise InvalidInputError(_fault(folder / _INDEX, f"names {name!r}, which is not a file of the folder"))
    if not (folder / name).is_file():
        raise InvalidInputError(_fault(folder / _INDEX, f"names the shard {name!r}, which is missing"))
    return folder / name


def _slots(file: Path) -> dict[str, Slot]:
    size = file.stat().st_size
    header, start = _header(file, size)
    slots = {}
    for name, entry in header.items():
        if name != "__metadata__":
            slots[name] = _slot(file, size, start, name, entry)
    return slots


def _header(file: Path, size: int) -> tuple[dict[str, Any], int]:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH), "little")
        if size < _LENGTH or _LENGTH + length > size:
            end = max(_LENGTH, _LENGTH + length)
            raise InvalidInputError(
                _fault(file, f"is cut short: its header ends at byte {end}, the file at {size}")
            )
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise InvalidInputError(_fault(file, f"the header at byte {_LENGTH} is not JSON")) from error
    if not isinstance(header, dict):
        raise InvalidInputError(_fault(file, f"the header at byte {_LENGTH} is not a JSON object"))
    return header, _LENGTH + length


def _slot(file: Path, size: int, start: int, name: str, entry: Any) -> Slot:  # noqa: ANN401
    try:
        shape = tuple(map(int, entry["shape"]))
        begin, end = map(int, entry["data_offsets"])
        dtype = str(entry["dtype"])
    except (KeyError, TypeError, ValueError) as error:
        detail = f"the header at byte {_LENGTH} does not describe {name!r}: {error!r}"
        raise InvalidInputError(_fault(file, detail)) from error
    if dtype not in _DTYPES:
        detail = f"{name!r} is stored as {dtype}; expected one of {', '.join(_DTYPES)}"
        raise InvalidInputError(_fault(file, detail))
    if start + end > size:
        detail = f"is cut short: {name!r} ends at byte {start + end}, the file at {size}; copy it again"
        raise InvalidInputError(_fault(file, detail))
    expected = math.prod(shape) * _DTYPES[dtype].itemsize
    if begin < 0 or end - begin != expected:
        detail = (
            f"{name!r} at byte {start + begin} takes {end - begin} bytes; {dtype} {shape} takes {expected}"
        )
        raise InvalidInputError(_fault(file, detail))
    return Slot(file, _DTYPES[dtype], shape, start + begin)


def _fault(file: Path, detail: str) -> Fault:
    return Fault("/checkpoint", f"{str(file)!r}: {detail}")
