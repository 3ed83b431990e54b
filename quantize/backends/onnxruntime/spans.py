"""What goes into the convolutions of an ONNX file and comes out of them, observed on data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from allocator import Fault, InvalidInputError
from allocator.contract.errors import require
from quantize.backends.onnxruntime.convolutions import Span
from quantize.backends.onnxruntime.export import LAYERS_KEY

Feeds = Mapping[str, NDArray[np.generic]]


def observed_spans(path: str | Path, batches: Iterable[Feeds]) -> dict[str, Span]:
    """Run the original file and note the least and the greatest numbers around each convolution.

    Args:
        path: File made by :func:`quantize.backends.onnxruntime.export.export_onnx`.
        batches: Inputs by name.

    Returns:
        Layer to span, for the layers that are convolutions.

    Raises:
        InvalidInputError: There are no batches, or a batch makes NaN or infinity.
        MissingPackageError: onnx or onnxruntime is not installed.
    """
    onnx, runtime = require("onnx", "onnx"), require("onnxruntime", "onnx")
    graph = onnx.load(os.fspath(path))
    (entry,) = (item for item in graph.metadata_props if item.key == LAYERS_KEY)
    nodes = {node.name: node for node in graph.graph.node if node.op_type == "Conv"}
    ends = {
        layer: (nodes[names[0]].input[0], nodes[names[0]].output[0])
        for layer, names in json.loads(entry.value).items()
        if names[0] in nodes
    }
    given = {item.name for item in graph.graph.input}
    watched = sorted({name for pair in ends.values() for name in pair} - given)
    known = {item.name for item in graph.graph.output}
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in watched if name not in known)
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found: dict[str, tuple[float, float]] = {}
    for batch in batches:
        values = dict(zip(watched, session.run(watched, dict(batch)), strict=True)) if watched else {}
        for name, value in {**values, **{name: batch[name] for name in given}}.items():
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = (min(low, float(value.min())), max(high, float(value.max())))
    if not found or not np.isfinite(list(found.values())).all():
        raise InvalidInputError(Fault("/batches", "expected at least one batch of finite numbers"))
    return {layer: Span(found[before], found[after]) for layer, (before, after) in ends.items()}
