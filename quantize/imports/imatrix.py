r"""imatrix: llama.cpp's importance matrix, with the model's weights.

The file holds the mean square of every input channel of a layer. With the rounding error of the weight it gives the
mean squared error of the layer's output, if channels are taken as uncorrelated:

.. math:: c = \sum_j \overline{x_j^2} \, \sum_i (\hat w_{ij} - w_{ij})^2

An expert has mean squares of its own, over the tokens that were sent to it. Experts of a block are one tensor there, so
that they are one unit here. What the matrix and the model do not have in common is left out and said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from allocator import Fault, InvalidInputError
from quantize.checkpoints.safetensors import load_weight, stored_weights
from quantize.exports.llama_names import is_stack, own_name
from quantize.formats import StorageFormat, flat_shape, parse_format
from quantize.imports.files import only, read_bytes
from quantize.imports.importance import MeanSquares, mean_squares, of_expert
from quantize.imports.scores import Pair, Request, Scores, some
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
    formats = [parse_format(name) for name in request.formats]
    importance = mean_squares(read_bytes(path), path.name)
    weights = stored_weights(request.model)
    tensors = {layer: _tensor(layer, request) for layer in weights}
    layers: dict[str, int | None] = {}
    units: dict[str, str] = {}
    costs: dict[Pair, float] = {}
    sizes: dict[Pair, float] = {}
    for layer, tensor in weights.items():
        name = tensors[layer]
        if name not in importance:
            continue
        weight = load_weight(tensor)
        found = _importance(layer, name, weight, importance[name], tensors, path.name)
        layers[layer] = math.prod(weight.shape)
        if is_stack(name):
            units[layer] = name.removesuffix(".weight")
        for fmt in formats:
            if refusal(weight, fmt) is None:
                costs[layer, fmt.name] = _error(weight, fmt, found)
                sizes[layer, fmt.name] = fmt.stored_bytes(weight.shape)
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


def _tensor(layer: str, request: Request) -> str:
    for theirs, ours in (request.names or {}).items():
        if layer in ours:
            return theirs
    return own_name(layer) or ""


def _importance(
    layer: str, name: str, weight: Float32Array, values: MeanSquares, tensors: Mapping[str, str], file: str
) -> MeanSquares:
    index = _INDEX.search(layer)
    members = [other for other, tensor in tensors.items() if tensor == name]
    found = values.reshape(-1) if index is None else of_expert(values, int(index[1]), len(members))
    _, row = flat_shape(weight.shape)
    if found is None:
        detail = (
            f"{layer!r} is one of {len(members)} experts, {name!r} has {len(values)}: it is of another model"
        )
        raise InvalidInputError(Fault(f"/{file}", detail))
    if found.shape != (row,):
        detail = f"{layer!r} has rows of {row}, the matrix {found.shape[0]} channels: it is of another model"
        raise InvalidInputError(Fault(f"/{file}", detail))
    return found


def _left_out(tensors: Mapping[str, str], importance: Mapping[str, MeanSquares]) -> dict[str, str]:
    notes = {}
    if missing := [layer for layer, name in tensors.items() if name not in importance]:
        notes["/layers"] = f"left out, for the matrix has no entry for them: {some(missing)}"
    had = set(tensors.values())
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
