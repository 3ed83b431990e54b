r"""imatrix: llama.cpp's importance matrix, with the model's weights.

The file holds the mean square of every input channel of a layer. With the rounding error of the weight it gives the
mean squared error of the layer's output, if channels are taken as uncorrelated:

.. math:: c = \sum_j \overline{x_j^2} \, \sum_i (\hat w_{ij} - w_{ij})^2

Source: llama.cpp, ``tools/imatrix/imatrix.cpp`` (GGUF: sums and counts; before August 2025: sums times calls).
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

from allocator import Fault, InvalidInputError
from quantize.checkpoints.gguf import read_gguf
from quantize.checkpoints.safetensors import load_weight, stored_weights
from quantize.exports.llama_cpp import own_name
from quantize.formats import StorageFormat, flat_shape, parse_format
from quantize.imports.files import only, read_bytes
from quantize.imports.scores import Pair, Request, Scores
from quantize.rounding.nearest import Float32Array, refusal, round_trip

MeanSquares = NDArray[np.float64]


def scores(request: Request) -> Scores:
    """Weigh rounding errors by an importance matrix.

    Args:
        request: One matrix, the formats to score, and the model.

    Returns:
        Scores of the layers that the matrix holds.

    Raises:
        InvalidInputError: Formats or model are missing, or the matrix is of another model.
    """
    path = only(request.paths, "imatrix")
    if not request.formats:
        raise InvalidInputError(Fault("/formats", "expected formats to score, got none"))
    if request.model is None:
        raise InvalidInputError(Fault("/model", "expected the model: the matrix weighs its rounding errors"))
    formats = [parse_format(name) for name in request.formats]
    importance = mean_squares(read_bytes(path), path.name)
    layers: dict[str, int | None] = {}
    costs: dict[Pair, float] = {}
    sizes: dict[Pair, float] = {}
    for layer, tensor in stored_weights(request.model).items():
        found = importance.get(own_name(layer) or "")
        if found is None:
            continue
        weight = load_weight(tensor)
        _, row = flat_shape(weight.shape)
        if found.shape != (row,):
            detail = (
                f"{layer!r} has rows of {row}, the matrix {found.shape[0]} channels: it is of another model"
            )
            raise InvalidInputError(Fault(f"/{path.name}", detail))
        layers[layer] = math.prod(weight.shape)
        for fmt in formats:
            if refusal(weight, fmt) is None:
                costs[layer, fmt.name] = _error(weight, fmt, found)
                sizes[layer, fmt.name] = fmt.stored_bytes(weight.shape)
    meaning = "Σ mean(x²) · (Q(W) − W)², the output error of uncorrelated channels, by llama.cpp's imatrix"
    columns = {fmt.name: fmt.describe() for fmt in formats}
    return Scores("imatrix_error", meaning, columns, layers, costs, sizes, source="imatrix")


def mean_squares(content: bytes, name: str) -> dict[str, MeanSquares]:
    """Read an importance matrix of either kind.

    Args:
        content: The file.
        name: Its name, for messages.

    Returns:
        Tensor → mean square of each input channel.

    Raises:
        InvalidInputError: It is no importance matrix.
    """
    try:
        found = _gguf(content) if content[:4] == b"GGUF" else _legacy(content)
    except (struct.error, ValueError, KeyError, UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise InvalidInputError(Fault(f"/{name}", f"expected an importance matrix: {error}")) from error
    return found


def _gguf(content: bytes) -> dict[str, MeanSquares]:
    tensors = read_gguf(content)
    found = {}
    for name, sums in tensors.items():
        if name.endswith(".in_sum2"):
            counts = np.maximum(tensors[name.removesuffix(".in_sum2") + ".counts"].reshape(-1, 1), 1)
            # One row per expert; experts share one entry here.
            found[name.removesuffix(".in_sum2")] = (
                sums.reshape(len(counts), -1).astype(np.float64) / counts
            ).mean(0)
    return found


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
        found[tensor] = values.astype(np.float64) / max(calls, 1)
        at += 4 * max(count, 0)
    return found


def _error(weight: Float32Array, fmt: StorageFormat, importance: MeanSquares) -> float:
    rows, row = flat_shape(weight.shape)
    difference = round_trip(weight, fmt).astype(np.float64) - weight  # (rows, row) after the reshape
    return float((difference.reshape(rows, row) ** 2).sum(0) @ importance)
