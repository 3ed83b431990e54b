"""Checkpoints in safetensors: the one reader, without torch.

Which files hold the model is decided once, as transformers does: the index names the file of every tensor; without an
index it is ``model.safetensors``. What neither names (``consolidated.safetensors`` of Mistral, a file left over from an
earlier run) is ignored, and listed in :attr:`Checkpoint.ignored`. Headers are checked as a whole before any weight is
read.

Source: the format is described at https://huggingface.co/docs/safetensors.
"""

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
from quantize.checkpoints.headers import Stored, read_header

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_TYPES: dict[str, Any] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}

__all__ = [
    "INDEX",
    "SINGLE",
    "Checkpoint",
    "Stored",
    "Tensor",
    "load_weight",
    "open_checkpoint",
    "stored_tensors",
    "stored_weights",
    "write_tensors",
]


@dataclass(frozen=True)
class Checkpoint:
    """Where the tensors of a model are.

    Attributes:
        folder: Its folder, or its only file.
        tensors: Name → where it is.
        ignored: Weight files of the folder that are no part of the model.
        where: Pointer of what is wrong with it.
    """

    folder: Path
    tensors: Mapping[str, Stored]
    ignored: tuple[str, ...] = ()
    where: str = "/model"


def open_checkpoint(folder: Path, where: str = "/model") -> Checkpoint:
    """Find every tensor of a checkpoint; nothing but headers is read.

    Args:
        folder: Folder with an index and the shards that it names, or with ``model.safetensors``; or one file. A folder
            with neither is read as a whole where no two of its files hold the same tensor.

    Returns:
        The checkpoint.

    Raises:
        InvalidInputError: There is none, a file is missing, cut short or damaged, or index and shards disagree; names
            the file with the offset, or the tensor.
    """
    if folder.is_file():
        return Checkpoint(folder, read_header(folder, where), where=where)
    files = sorted(path.name for path in folder.glob("*.safetensors") if path.is_file())
    if (folder / INDEX).exists():
        placed = _weight_map(folder / INDEX, where)
        found = _indexed(folder, placed, where)
        used = set(placed.values())
    elif SINGLE in files:
        found, used = read_header(folder / SINGLE, where), {SINGLE}
    else:
        found, used = _union(folder, files, where), set(files)
    return Checkpoint(folder, found, tuple(name for name in files if name not in used), where)


def stored_weights(folder: Path) -> dict[str, Stored]:
    """Find the weights of a checkpoint.

    Args:
        folder: As for :func:`open_checkpoint`.

    Returns:
        Layer → its weight, for weights of two and more dimensions.
    """
    return {
        name.removesuffix(".weight"): tensor
        for name, tensor in stored_tensors(folder).items()
        if name.endswith(".weight") and len(tensor.shape) > 1
    }


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Find everything in a checkpoint.

    Args:
        folder: As for :func:`open_checkpoint`.

    Returns:
        Name → tensor.
    """
    return dict(open_checkpoint(folder).tensors)


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


def load_weight(tensor: Stored) -> NDArray[np.float32]:
    """Read a weight.

    Returns:
        The weight in single precision.

    Raises:
        InvalidInputError: It is not in floating point, or the file does not hold all of it.
    """
    if tensor.dtype not in _TYPES:
        detail = f"{str(tensor.file)!r} holds {tensor.dtype}; known: {', '.join(_TYPES)}"
        raise InvalidInputError(Fault("/model", detail))
    return np.frombuffer(tensor.read(), dtype=_TYPES[tensor.dtype]).astype(np.float32).reshape(tensor.shape)


def _weight_map(index: Path, where: str) -> dict[str, str]:
    try:
        placed = json.loads(index.read_text("utf-8"))["weight_map"]
        if not isinstance(placed, dict) or not all(isinstance(shard, str) for shard in placed.values()):
            raise TypeError(f"weight_map is a {type(placed).__name__}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        detail = f"{str(index)!r}: expected JSON with a weight_map from tensor to file: {error}"
        raise InvalidInputError(Fault(where, detail)) from error
    return placed


def _indexed(folder: Path, placed: Mapping[str, str], where: str) -> dict[str, Stored]:
    for shard in sorted(set(placed.values())):
        detail = None
        if Path(shard).name != shard:
            detail = f"names {shard!r}, which is not a file of the folder"
        elif not (folder / shard).is_file():
            detail = f"names the shard {shard!r}, which is missing"
        if detail:
            raise InvalidInputError(Fault(where, f"{str(folder / INDEX)!r}: {detail}"))
    shards = {shard: read_header(folder / shard, where) for shard in sorted(set(placed.values()))}
    lost = [
        Fault(where, f"{str(folder / shard)!r}: {name!r} is not in it, but {INDEX} says so")
        for name, shard in placed.items()
        if name not in shards[shard]
    ]
    if lost:
        raise InvalidInputError(*lost)
    # In the order of the files, so that whoever writes shard by shard keeps them apart.
    return {
        name: tensor
        for shard, held in shards.items()
        for name, tensor in held.items()
        if placed.get(name) == shard
    }


def _union(folder: Path, files: list[str], where: str) -> dict[str, Stored]:
    if not files or any(name.startswith("adapter_") for name in files):
        raise InvalidInputError(Fault(where, _absent(folder, files)))
    found: dict[str, Stored] = {}
    for file in files:
        for name, tensor in read_header(folder / file, where).items():
            if name in found:
                both = f"{found[name].file.name!r} and {file!r}"
                detail = (
                    f"both {both} of {str(folder)!r} hold {name!r}, and neither {INDEX} nor {SINGLE} says which is "
                    "the model's; copy the index too, or give the file itself"
                )
                raise InvalidInputError(Fault(where, detail))
            found[name] = tensor
    return found


def _absent(folder: Path, files: list[str]) -> str:
    expected = f"expected a folder with {SINGLE} or {INDEX}, got {str(folder)!r}"
    if files:
        return f"{expected}, which holds an adapter ({files[0]}); merge it into its base model and save that"
    others = [
        path.name for path in sorted(folder.glob("*")) if path.suffix in {".bin", ".pt", ".pth", ".gguf"}
    ]
    if others:
        return f"{expected}, which holds {others[0]}; save the model as safetensors first"
    return f"{expected}, which holds no *.safetensors"
