"""A torch model as an ONNX file that remembers which initializer belongs to which layer."""

from __future__ import annotations

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
from allocator.errors import pointer, require
from quantize.files import replacing

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Key of the file's metadata: a JSON object, layer name → initializer name.
LAYERS_KEY = "bitalloc.layers"


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
        model: The module, called with ``inputs`` as keyword arguments; it must return one tensor.
        inputs: Example inputs by name.
        path: File to write.
        layers: Module paths whose weights will be looked up by :mod:`quantize.backends.onnxruntime`.
        dynamic: Input name to {dimension: name} of the dimensions that vary.
        output: Name of the output.

    Returns:
        ``path``.

    Raises:
        InvalidInputError: A layer's weight does not occur in the exported graph; nothing was written.
        MissingPackageError: onnx or onnxscript is not installed.
    """
    import torch

    onnx = require("onnx", "onnx")
    require("onnxscript", "onnx")
    dims = {label: torch.export.Dim(label) for axes in dynamic.values() for label in axes.values()}
    shapes = {name: {axis: dims[label] for axis, label in dynamic[name].items()} for name in inputs}
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
    _forget_sources(graph)
    entry = graph.metadata_props.add()
    entry.key, entry.value = LAYERS_KEY, json.dumps(_initializers(model, graph, layers))
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


def _initializers(model: nn.Module, graph: Any, layers: Sequence[str]) -> dict[str, str]:  # noqa: ANN401
    # Exporters rename, transpose and fold; the numbers themselves are what they keep.
    numpy_helper = require("onnx.numpy_helper", "onnx")
    by_content: dict[tuple[tuple[int, ...], bytes], str] = {}
    for tensor in graph.graph.initializer:
        if len(tensor.dims) == 2:
            by_content.setdefault(_content(numpy_helper.to_array(tensor)), tensor.name)
    found: dict[str, str] = {}
    faults = []
    for layer in layers:
        weight = model.get_submodule(layer).weight.detach().numpy()  # type: ignore[operator]
        name = by_content.get(_content(weight)) or by_content.get(_content(np.ascontiguousarray(weight.T)))
        if name is None:
            faults.append(
                Fault(pointer(("layers", layer)), "its weight does not occur in the exported graph")
            )
        else:
            found[layer] = name
    if faults:
        raise InvalidInputError(*faults)
    return found


def _content(array: np.ndarray[Any, Any]) -> tuple[tuple[int, ...], bytes]:
    return array.shape, array.tobytes()


def _forget_sources(graph: Any) -> None:  # noqa: ANN401
    # The exporter notes source lines, with paths of this machine, on every node and value.
    for holder in (*graph.graph.node, *graph.graph.value_info, *graph.graph.initializer, graph.graph):
        del holder.metadata_props[:]
        holder.doc_string = ""
