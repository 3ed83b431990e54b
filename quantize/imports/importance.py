"""llama.cpp's importance matrices: mean squares of what a layer takes in, per channel and per expert.

Source: llama.cpp, ``tools/imatrix/imatrix.cpp`` (GGUF: sums and counts; before August 2025: sums times calls).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from allocator import Fault, InvalidInputError
from quantize.checkpoints.gguf import read_gguf

MeanSquares = NDArray[np.float64]
_SUMS, _COUNTS = ".in_sum2", ".counts"


def mean_squares(content: bytes, name: str) -> dict[str, MeanSquares]:
    """Read an importance matrix of either kind.

    Args:
        name: Its name, for messages.

    Returns:
        Tensor → (experts, channels) mean squares, with one expert for most tensors. The older kind does not say how
        many experts there are: theirs follow each other in one row. Experts that no token was sent to have zeros;
        tensors that no token reached at all are left out.

    Raises:
        InvalidInputError: It is no importance matrix, no token reached any tensor, or it holds what no mean
            square can be; each such tensor is named.
    """
    try:
        found = _gguf(content) if content[:4] == b"GGUF" else _legacy(content)
    except (struct.error, ValueError, KeyError, UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise InvalidInputError(Fault(f"/{name}", f"expected an importance matrix: {error}")) from error
    faults = [fault for tensor, values in found.items() for fault in _faults(tensor, values, name)]
    if faults:
        raise InvalidInputError(*faults)
    # A tensor that no token reached says nothing: zeros would make every format free.
    reached = {tensor: values for tensor, values in found.items() if values.any()}
    if not reached:
        detail = "every entry is zero: no token reached any tensor; make the matrix again"
        raise InvalidInputError(Fault(f"/{name}", detail))
    return reached


def of_expert(values: MeanSquares, index: int, experts: int) -> MeanSquares | None:
    """The mean squares of one expert.

    Args:
        values: (experts, channels) mean squares of a stack, or all of them in one row.
        experts: Number of experts in the model.

    Returns:
        (channels,) mean squares; the mean of all others for an expert that no token was sent to, and None where the
        stack has another number of experts.

    Example:
        >>> of_expert(np.array([[1.0, 2.0, 3.0, 4.0]]), 1, 2).tolist()
        [3.0, 4.0]
    """
    if len(values) != experts:
        if len(values) != 1 or values.shape[1] % experts:
            return None
        values = values.reshape(experts, -1)
    used = np.flatnonzero(values.sum(axis=1))
    own: MeanSquares = values[index]
    mean: MeanSquares = values[used].mean(axis=0) if used.size else own
    return own if index in used else mean


def _faults(tensor: str, values: MeanSquares, name: str) -> list[Fault]:
    bad = ~(np.isfinite(values) & (values >= 0))
    if not bad.any():
        return []
    expert, channel = (int(index) for index in np.argwhere(bad)[0])
    value = values[expert, channel]
    kind = "NaN" if np.isnan(value) else f"{value:g}"
    where = f"channel {channel}" + (f" of expert {expert}" if len(values) > 1 else "")
    more = f" and {int(bad.sum()) - 1} more" if bad.sum() > 1 else ""
    detail = f"{tensor!r} holds {kind} ({where}{more}), which is no mean square; make the matrix again"
    return [Fault(f"/{name}", detail)]


def _gguf(content: bytes) -> dict[str, MeanSquares]:
    tensors = read_gguf(content)
    names = [name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)]
    if not names:
        raise ValueError(f"it holds no tensor that ends with {_SUMS}")
    return {name: _means(name, tensors) for name in names}


def _means(name: str, tensors: Mapping[str, NDArray[np.float32]]) -> MeanSquares:
    counts = tensors[name + _COUNTS].reshape(-1, 1).astype(np.float64)
    sums = tensors[name + _SUMS].reshape(len(counts), -1).astype(np.float64)
    means: MeanSquares = sums / np.where(counts == 0, 1, counts)
    return means


def _legacy(content: bytes) -> dict[str, MeanSquares]:
    (entries,), at = struct.unpack_from("<i", content), 4
    if not 0 < entries < 10**6:
        raise ValueError(f"it would have {entries} entries")
    found: dict[str, MeanSquares] = {}
    for _ in range(entries):
        (length,) = struct.unpack_from("<i", content, at)
        if not 0 < length < 2**16:
            raise ValueError(f"a name would have {length} bytes")
        tensor = content[at + 4 : at + 4 + length].decode()
        calls, count = struct.unpack_from("<ii", content, at + 4 + length)
        at += 12 + length
        values = np.frombuffer(content, "<f4", count=count, offset=at) if count > 0 else np.zeros(0)
        found[tensor] = values.astype(np.float64).reshape(1, -1) / max(calls, 1)
        at += 4 * max(count, 0)
    return found
