r"""imatrix: llama.cpp's importance matrix, with the model's weights.

The file holds the mean square of every input channel of a layer. With the rounding error of the weight it gives the
mean squared error of the layer's output, if channels are taken as uncorrelated:

.. math:: c = \sum_j \overline{x_j^2} \, \sum_i (\hat w_{ij} - w_{ij})^2

An expert has mean squares of its own, over the tokens that were sent to it. Experts of a block are one tensor there, so
that they are one unit here, or one row where the checkpoint has them in one parameter. What the matrix and the model do
not have in common is left out and said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from allocator import Fault, InvalidInputError
from quantize.checkpoints.matrices import matrix_tensors
from quantize.checkpoints.safetensors import load_weight
from quantize.exports.llama_names import is_stack, own_name, split_names
from quantize.formats import StorageFormat, flat_shape
from quantize.imports.files import only, read_bytes
from quantize.imports.importance import MeanSquares, mean_squares, of_expert
from quantize.imports.scores import Pair, Request, Scores, some
from quantize.llama_types import format_named
from quantize.rounding.nearest import Float32Array, refusal, round_trip

__all__ = ["mean_squares", "scores"]

_INDEX = re.compile(r"\.experts\.(\d+)\.")


def scores(request: Request) -> Scores:
    """Weigh rounding errors by an importance matrix.

    Args:
        request: One matrix, the formats to score, and the model.

    Returns:
        Scores of the layers that the matrix holds.

    Raises:
        InvalidInputError: Formats or model are missing, or the matrix is broken or of another model.
    """
    path = only(request.paths, "imatrix")
    if not request.formats:
        raise InvalidInputError(Fault("/formats", "expected formats to score, got none"))
    if request.model is None:
        raise InvalidInputError(Fault("/model", "expected the model: the matrix weighs its rounding errors"))
    formats = [format_named(name) for name in request.formats]
    importance = mean_squares(read_bytes(path), path.name)
    weights = matrix_tensors(request.model)
    tensors = {layer: _tensors(layer, request) for layer in weights}
    layers: dict[str, int | None] = {}
    units: dict[str, str] = {}
    costs: dict[Pair, float] = {}
    sizes: dict[Pair, float] = {}
    for layer, tensor in weights.items():
        name = next((name for name in tensors[layer] if name in importance), None)
        if name is None:
            continue
        weight = load_weight(tensor)
        parts = _parts(layer, name, weight, importance[name], tensors, path.name)
        layers[layer] = math.prod(weight.shape)
        if is_stack(name):
            units[layer] = name.removesuffix(".weight")
        for fmt in formats:
            if all(refusal(part, fmt) is None for part, _ in parts):
                costs[layer, fmt.name] = sum(_error(part, fmt, found) for part, found in parts)
                sizes[layer, fmt.name] = sum(fmt.stored_bytes(part.shape) for part, _ in parts)
    meaning = "Σ mean(x²) · (Q(W) − W)², the output error of uncorrelated channels, by llama.cpp's imatrix"
    return Scores(
        "imatrix_error",
        meaning,
        {fmt.name: fmt.describe() for fmt in formats},
        layers,
        costs,
        sizes,
        units=units,
        source="imatrix",
        notes=_left_out(tensors, importance),
    )


def _tensors(layer: str, request: Request) -> tuple[str, ...]:
    for theirs, ours in (request.names or {}).items():
        if layer in ours:
            return (theirs,)
    own = own_name(layer)
    # What a checkpoint stores as one may be several tensors, which take in the same.
    return () if own is None else (own, *split_names(own))


def _parts(
    layer: str,
    name: str,
    weight: Float32Array,
    values: MeanSquares,
    tensors: Mapping[str, tuple[str, ...]],
    file: str,
) -> list[tuple[Float32Array, MeanSquares]]:
    if weight.ndim == 3 and is_stack(name):
        found = [_of_member(layer, name, values, index, len(weight), file) for index in range(len(weight))]
        return [
            (_along_rows(layer, part, squares, file), squares)
            for part, squares in zip(weight, found, strict=True)
        ]
    index = _INDEX.search(layer)
    members = sum(name in names for names in tensors.values())
    squares = (
        values.reshape(-1) if index is None else _of_member(layer, name, values, int(index[1]), members, file)
    )
    _, row = flat_shape(weight.shape)
    if squares.shape != (row,):
        raise InvalidInputError(
            _stranger(file, f"{layer!r} has rows of {row}, the matrix {len(squares)} channels")
        )
    return [(weight, squares)]


def _of_member(
    layer: str, name: str, values: MeanSquares, index: int, experts: int, file: str
) -> MeanSquares:
    found = of_expert(values, index, experts)
    if found is None:
        raise InvalidInputError(
            _stranger(file, f"{layer!r} is one of {experts} experts, {name!r} has {len(values)}")
        )
    return found


def _along_rows(layer: str, part: Float32Array, squares: MeanSquares, file: str) -> Float32Array:
    # Experts in one parameter are stored (out, in) or (in, out).
    if part.shape[1] != len(squares) and part.shape[0] == len(squares):
        return np.ascontiguousarray(part.T)
    if part.shape[1] != len(squares):
        detail = f"{layer!r} has experts of {part.shape}, the matrix {len(squares)} channels"
        raise InvalidInputError(_stranger(file, detail))
    return part


def _stranger(file: str, detail: str) -> Fault:
    return Fault(f"/{file}", f"{detail}: it is of another model")


def _left_out(
    tensors: Mapping[str, tuple[str, ...]], importance: Mapping[str, MeanSquares]
) -> dict[str, str]:
    notes = {}
    if missing := [layer for layer, names in tensors.items() if not importance.keys() & set(names)]:
        notes["/layers"] = f"left out, for the matrix has no entry for them: {some(missing)}"
    had = {name for names in tensors.values() for name in names}
    if strange := [name for name in importance if name not in had]:
        notes["/source"] = f"entries of the matrix without a layer in the model: {some(strange)}"
    unused = {
        name: [index for index, row in enumerate(values) if not row.any()]
        for name, values in importance.items()
        if len(values) > 1
    }
    if idle := [f"{name} {index}" for name, experts in unused.items() for index in experts]:
        notes["/experts"] = (
            f"no token was sent to these experts; they have the mean of the others: {some(idle)}"
        )
    return notes


def _error(weight: Float32Array, fmt: StorageFormat, importance: MeanSquares) -> float:
    rows, row = flat_shape(weight.shape)
    difference = round_trip(weight, fmt).astype(np.float64) - weight  # (rows, row) after the reshape
    return float((difference.reshape(rows, row) ** 2).sum(0) @ importance)
