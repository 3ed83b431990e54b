"""MLX: the sensitivities of ``mlx_lm.dynamic_quant``.

A sensitivity is the first-order change of the KL divergence between the low and the high format, per million weights;
times the size of a layer it is the cost of the low format, and the high one costs nothing. The file names neither the
formats nor the sizes: both have to be given.

Source: mlx-lm 0.32, ``mlx_lm/quant/dynamic_quant.py`` (``estimate_sensitivities``).
"""

from __future__ import annotations

import math

from allocator import Fault, InvalidInputError
from allocator.contract.errors import unknown
from quantize.checkpoints.safetensors import stored_weights
from quantize.exports.documents import entries
from quantize.formats import parse_format
from quantize.imports.files import number, only, read_document
from quantize.imports.scores import Pair, Request, Scores


def scores(request: Request) -> Scores:
    """Read sensitivities.

    Args:
        request: One file, the low and the high format, and the model.

    Returns:
        Scores of both formats.

    Raises:
        InvalidInputError: Formats or model are missing, or a layer is not in the model.
    """
    path = only(request.paths, "mlx")
    if len(request.formats) != 2:
        detail = f"expected the low and the high format of the measurement, got {list(request.formats)}"
        raise InvalidInputError(Fault("/formats", detail))
    if request.model is None:
        raise InvalidInputError(Fault("/model", "expected the model: sensitivities are per million weights"))
    low, high = (parse_format(name) for name in request.formats)
    weights = stored_weights(request.model)
    layers: dict[str, int | None] = {}
    costs: dict[Pair, float] = {}
    sizes: dict[Pair, float] = {}
    for index, item in enumerate(entries(read_document(path), path.name)):
        pair = entries(item, path.name, index)
        if len(pair) != 2 or not isinstance(pair[0], str):
            raise InvalidInputError(
                Fault(f"/{path.name}/{index}", f"expected a layer and its sensitivity, got {pair}")
            )
        layer = pair[0]
        if layer not in weights:
            raise InvalidInputError(Fault(f"/{path.name}/{index}", unknown(layer, weights, "layer")))
        layers[layer] = math.prod(weights[layer].shape)
        costs[layer, low.name] = number(pair[1], path.name, index) * math.prod(weights[layer].shape) / 1e6
        costs[layer, high.name] = 0.0
        for fmt in (low, high):
            sizes[layer, fmt.name] = fmt.stored_bytes(weights[layer].shape)
    meaning = f"first-order change of the KL divergence, {low.name} against {high.name}, MLX"
    formats = {fmt.name: fmt.describe() for fmt in (low, high)}
    return Scores("kl_alignment", meaning, formats, layers, costs, sizes, source="mlx sensitivities")
