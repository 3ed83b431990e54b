"""A torch model as an ONNX file that remembers which nodes compute with the weight of which layer."""

from __future__ import annotations

import ast
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer, require, unknown
from quantize.storage.files import replacing

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Key of the file's metadata: a JSON object, layer name → names of the nodes that compute with its weight.
LAYERS_KEY = "bitalloc.layers"
#: Where the weight stands among the inputs of a node.
WEIGHT_INPUT = {"Gather": 0, "MatMul": 1, "Gemm": 1, "Conv": 1}


def export_onnx(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    path: Path,
    *,
    layers: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
    output: str = "output",
) -> Path:
    """Export a model in single precision.

    Args:
        model: The module in evaluation mode, called with ``inputs`` as keyword arguments; it must return one tensor.
        inputs: Example inputs by name.
        layers: Module paths that a plan may name: Linear, Embedding and convolutions.
        dynamic: Input name to {dimension: name} of the dimensions that vary; inputs left out have a fixed shape.

    Returns:
        ``path``.

    Raises:
        InvalidInputError: A layer is not in the model, or no node of the exported graph computes with its weight;
            nothing was written.
        MissingPackageError: onnx or onnxscript is not installed.
    """
    import torch

    onnx = require("onnx", "onnx")
    require("onnxscript", "onnx")
    _require_modules(model, layers)
    dims = {label: torch.export.Dim(label) for axes in dynamic.values() for label in axes.values()}
    shapes = {name: {axis: dims[label] for axis, label in dynamic.get(name, {}).items()} for name in inputs}
    with _quiet():
        program = torch.onnx.export(
            model,
            kwargs=dict(inputs),
            dynamo=True,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    nodes = _nodes_of_layers(model, graph.graph, layers)
    _forget_sources(graph)
    entry = graph.metadata_props.add()
    entry.key, entry.value = LAYERS_KEY, json.dumps(nodes)
    with replacing(path) as partial:
        onnx.save(graph, os.fspath(partial))
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    # The exporter warns about its own use of torch, which nobody here can act on.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`isinstance", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name", UserWarning)
            yield
    finally:
        logger.setLevel(level)


def _require_modules(model: nn.Module, layers: Sequence[str]) -> None:
    names = [name for name, module in model.named_modules() if getattr(module, "weight", None) is not None]
    faults = [
        Fault(pointer(("layers", layer)), unknown(layer, names, "layer"))
        for layer in layers
        if layer not in names
    ]
    if faults:
        raise InvalidInputError(*faults)


def _nodes_of_layers(model: nn.Module, graph: Any, layers: Sequence[str]) -> dict[str, list[str]]:  # noqa: ANN401
    # The exporter notes on each node which modules it came from; the numbers tell the weight from other inputs.
    numpy_helper = require("onnx.numpy_helper", "onnx")
    tensors = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) > 1}
    scopes = [(node, _scopes(node)) for node in graph.node if node.op_type in WEIGHT_INPUT]
    found: dict[str, list[str]] = {}
    for layer in layers:
        weight: Any = model.get_submodule(layer).weight
        plain = weight.detach().numpy()
        users = {  # by all of their names: the exporter notes the one that a module was reached by
            name
            for name, module in model.named_modules(remove_duplicate=False)
            if getattr(module, "weight", None) is weight
        }
        for node, names in scopes:
            stored = tensors.get(node.input[WEIGHT_INPUT[node.op_type]])
            if stored is not None and users & names and _same(numpy_helper.to_array(stored), plain):
                found.setdefault(layer, []).append(node.name)
    faults = [
        Fault(
            pointer(("layers", layer)), "no node of the exported graph computes with its weight; leave it out"
        )
        for layer in layers
        if layer not in found
    ]
    if faults:
        raise InvalidInputError(*faults)
    return found


def _scopes(node: Any) -> set[str]:  # noqa: ANN401
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            return set(ast.literal_eval(entry.value))
    return set()


def _same(stored: np.ndarray[Any, Any], weight: np.ndarray[Any, Any]) -> bool:
    return np.array_equal(stored, weight) or (weight.ndim == 2 and np.array_equal(stored, weight.T))


def _forget_sources(graph: Any) -> None:  # noqa: ANN401
    # The exporter notes source lines, with paths of this machine, on every node and value.
    for holder in (*graph.graph.node, *graph.graph.value_info, *graph.graph.initializer, graph.graph):
        del holder.metadata_props[:]
        holder.doc_string = ""
