"""Parts of a checkpoint as tensors of torch: rows of a weight at a time, so that no weight is in memory as a whole.

Which files hold the model, and whether they are whole, is decided by :mod:`quantize.checkpoints.safetensors`. Tensors
are read rather than mapped into memory: pages of a mapping count as resident memory for as long as it is open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.checkpoints import safetensors
from quantize.checkpoints.safetensors import Stored

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model.

    Attributes:
        folder: The folder.
        slots: Tensor name → where it lies.
    """

    folder: Path
    slots: Mapping[str, Stored]

    def read(self, name: str, first: int = 0, rows: int | None = None) -> Tensor:
        """Read a tensor, or some rows of it.

        Args:
            rows: Number of rows; all from the first on when absent.

        Returns:
            The rows in single precision, in memory of their own.
        """
        slot = self.slots[name]
        dtype = _DTYPES[slot.dtype]
        width = math.prod(slot.shape[1:])
        count = slot.shape[0] - first if rows is None else min(rows, slot.shape[0] - first)
        offset = slot.start + first * width * dtype.itemsize
        raw = np.fromfile(slot.file, np.uint8, count * width * dtype.itemsize, offset=offset)
        plain: Tensor = torch.from_numpy(raw).view(dtype).reshape(count, *slot.shape[1:])
        return plain.to(torch.float32)

    def chunks(self, name: str, most: int) -> Iterator[Tensor]:
        """Read a tensor in slices of whole rows.

        Args:
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
        folder: As for :func:`quantize.checkpoints.safetensors.open_checkpoint`.

    Returns:
        The checkpoint; nothing but headers has been read.
    """
    return Checkpoint(folder, safetensors.open_checkpoint(folder, "/checkpoint").tensors)


def require_tensors(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Make sure that a checkpoint holds a model.

    Args:
        shapes: Name → shape of every tensor that the model needs.

    Raises:
        InvalidInputError: Tensors are missing, have another shape or are no floating-point numbers; names each.
    """
    faults = []
    for name, shape in shapes.items():
        where = pointer(("checkpoint", name))
        slot = checkpoint.slots.get(name)
        if slot is None:
            faults.append(
                Fault(where, f"is missing from {str(checkpoint.folder)!r}; config.json asks for it")
            )
        elif slot.shape != shape:
            faults.append(Fault(where, f"has shape {slot.shape}, but config.json asks for {shape}"))
        elif slot.dtype not in _DTYPES:
            faults.append(Fault(where, f"is stored as {slot.dtype}; expected one of {', '.join(_DTYPES)}"))
    if faults:
        raise InvalidInputError(*faults)
