"""MLX: the sensitivities of ``mlx_lm.dynamic_quant``.

A sensitivity is the first-order change of the KL divergence between the low and the high format, per million weights;
times the size of a layer it is the cost of the low format, and the high one costs nothing. The file names neither the
formats nor the sizes: both have to be given. Experts of a block are one layer there (``switch_mlp``) and one row here.

Source: mlx-lm 0.32, ``mlx_lm/quant/dynamic_quant.py`` (``estimate_sensitivities``).
"""

from __future__ import annotations

from allocator import Fault, InvalidInputError
from allocator.contract.errors import unknown
from quantize.checkpoints.matrices import stored_matrices
from quantize.exports.documents import entries
from quantize.formats import StorageFormat, parse_format
from quantize.imports.files import number, only, read_document
from quantize.imports.members import Shape, count, members_of, weights_of
from quantize.imports.scores import Pair, Request, Scores


def scores(request: Request) -> Scores:
    """Read sensitivities.

    Args:
        request: One file, the low and the high format, and the model.

    Returns:
        Scores of both formats.

    Raises:
        InvalidInputError: Formats or model are missing, or layers are not in the model; each of those is named.
    """
    path = only(request.paths, "mlx")
    if len(request.formats) != 2:
        detail = f"expected the low and the high format of the measurement, got {list(request.formats)}"
        raise InvalidInputError(Fault("/formats", detail))
    if request.model is None:
        raise InvalidInputError(Fault("/model", "expected the model: sensitivities are per million weights"))
    low, high = (parse_format(name) for name in request.formats)
    if low.bits >= high.bits:
        detail = f"expected the low format first and then one of more bits, got {low.name} and {high.name}"
        raise InvalidInputError(Fault("/formats", detail))
    members = members_of(stored_matrices(request.model))
    found: dict[str, tuple[float, list[Shape]]] = {}
    faults = []
    for index, item in enumerate(entries(read_document(path), path.name)):
        layer, value = _pair(item, path.name, index)
        shapes = weights_of(layer, members, request.names)
        if not shapes:
            faults.append(Fault(f"/{path.name}/{index}", unknown(layer, members.shapes, "layer")))
        if layer in found:
            faults.append(Fault(f"/{path.name}/{index}", f"{layer!r} is given twice"))
        found[layer] = value, shapes
    if faults:
        raise InvalidInputError(*faults)
    return _scores(found, low, high)


def _scores(found: dict[str, tuple[float, list[Shape]]], low: StorageFormat, high: StorageFormat) -> Scores:
    layers: dict[str, int | None] = {}
    costs: dict[Pair, float] = {}
    sizes: dict[Pair, float] = {}
    for layer, (value, shapes) in found.items():
        layers[layer] = count(shapes)
        costs[layer, low.name] = value * count(shapes) / 1e6
        costs[layer, high.name] = 0.0
        for fmt in (low, high):
            sizes[layer, fmt.name] = sum(fmt.stored_bytes(shape) for shape in shapes)
    meaning = f"first-order change of the KL divergence, {low.name} against {high.name}, MLX"
    formats = {fmt.name: fmt.describe() for fmt in (low, high)}
    return Scores("kl_alignment", meaning, formats, layers, costs, sizes, source="mlx sensitivities")


def _pair(item: object, name: str, index: int) -> tuple[str, float]:
    pair = entries(item, name, index)
    if len(pair) != 2 or not isinstance(pair[0], str):
        raise InvalidInputError(
            Fault(f"/{name}/{index}", f"expected a layer and its sensitivity, got {pair}")
        )
    return pair[0], number(pair[1], name, index)
