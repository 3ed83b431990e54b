"""ONNX Runtime: packed 2, 4 and 8-bit weights, node by node, in one file.

``MatMul`` and ``Gemm`` become ``MatMulNBits``, ``Gather`` becomes ``GatherBlockQuantized``, and ``Conv`` gets 8-bit
weights, and inputs and outputs where their spans are known, between QDQ nodes. Codes and scales are those
of :mod:`quantize.rounding.nearest`, packed here, so that the file runs exactly what the tables were measured with.
Scales are stored in half precision and widened by a ``Cast`` that ONNX Runtime folds when it loads the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from allocator import Fault, InvalidInputError, Profile
from allocator.contract.errors import pointer, require
from quantize.backends.onnxruntime.convolutions import Span, convolution
from quantize.backends.onnxruntime.export import LAYERS_KEY, WEIGHT_INPUT
from quantize.backends.onnxruntime.graph import add_initializer, add_widened, attribute, drop_unused
from quantize.formats import StorageFormat
from quantize.lint.gate import findings_of, require_readable
from quantize.lint.model import Model
from quantize.plan import faults_at, no_code_for, profile_faults, require_layers
from quantize.rounding.methods import NEAREST, Rounding, moment_faults, rounded
from quantize.rounding.moments import Moments
from quantize.rounding.nearest import Float32Array, round_trip
from quantize.rounding.packing import packed
from quantize.rounding.quantized import Quantized
from quantize.runtimes import onnxruntime as runtime
from quantize.storage.files import replacing, require_free

_MICROSOFT = "com.microsoft"
#: Precision of the inputs of a quantized matrix: 0 that of the model, 1 single, 2 half, 3 bfloat16, 4 eight bits.
ACCURACY_LEVELS = (0, 1, 2, 3, 4)
_RoundTo: TypeAlias = Callable[[Float32Array, StorageFormat], Quantized]


def apply(
    model: str | Path,
    plan: Mapping[str, StorageFormat],
    *,
    path: str | Path,
    rounding: Rounding = NEAREST,
    moments: Moments | None = None,
    profile: Profile | None = None,
    spans: Mapping[str, Span] | None = None,
    accuracy_level: int = 4,
    force: bool = False,
) -> Path:
    """Write a quantized copy of an ONNX file made by :func:`quantize.backends.onnxruntime.export.export_onnx`.

    Args:
        model: The file to start from; it is not changed.
        plan: Layer name to format: 2, 4 or 8-bit symmetric integers in groups of 16, 32, 64, 128 or 256; int8 for
            convolutions; fp16 or fp32.
        path: File to write; it appears whole or not at all.
        moments: Layer name to second moment of its inputs, for roundings that use them.
        profile: What the plan was made from: then sizes of layers and units are checked against it.
        spans: Convolution to what its inputs and outputs span, from
            :func:`quantize.backends.onnxruntime.spans.observed_spans`; with them it computes in 8 bits, without them
            only its weights are stored in 8.
        accuracy_level: One of :data:`ACCURACY_LEVELS`: 4 also rounds the inputs of quantized matrices to 8 bits, block
            by block, which is fast; 1 leaves them in single precision, which has no fast kernel for 2 and 8 bits.
        force: Whether an earlier file may be replaced, and what ONNX Runtime does not load may be written.

    Returns:
        ``path``.

    Raises:
        InvalidInputError: The file exists, a layer is not in the model, its moment does not fit, ONNX Runtime cannot
            run its format, or the accuracy level is unknown; nothing was written.
        MissingPackageError: onnx is not installed.
    """
    onnx = require("onnx", "onnx")
    require_free(Path(path), force=force)
    if accuracy_level not in ACCURACY_LEVELS:
        known = ", ".join(map(str, ACCURACY_LEVELS))
        raise InvalidInputError(Fault("/accuracy_level", f"expected one of {known}, got {accuracy_level!r}"))
    graph = onnx.load(os.fspath(model))
    layers = _layers(graph)
    require_layers(plan, layers)
    nodes = {node.name: node for node in graph.graph.node}
    uses = [
        (layer, _use(graph.graph, nodes[name]), fmt) for layer, fmt in plan.items() for name in layers[layer]
    ]
    faults = [
        fault
        for layer, use, fmt in uses
        for fault in faults_at(layer, use.weight, fmt, _unsupported(fmt, convolves=use.convolves))
    ]
    shapes = {layer: use.weight.shape for layer, use, _ in uses}
    faults += moment_faults(shapes, plan, rounding, moments) + profile_faults(plan, shapes, profile)
    if faults:
        raise InvalidInputError(*dict.fromkeys(faults))
    require_readable(findings_of(plan, Model(shapes), "onnxruntime"), insist=force)
    for layer, use, fmt in uses:
        round_to = partial(rounded, rounding=rounding, moment=(moments or {}).get(layer))
        _replace(graph.graph, use, fmt, round_to, (spans or {}).get(layer), accuracy_level)
    drop_unused(graph.graph)
    if all(entry.domain != _MICROSOFT for entry in graph.opset_import):
        graph.opset_import.append(onnx.helper.make_opsetid(_MICROSOFT, 1))
    with replacing(Path(path)) as unfinished:
        onnx.save(graph, os.fspath(unfinished))
    return Path(path)


def weights_of_layers(graph: Any, layers: Sequence[str]) -> list[Float32Array] | None:  # noqa: ANN401
    """Read the weights of some layers, rows as outputs.

    Args:
        graph: An exported file that was read.

    Returns:
        A weight for each; None where the file lacks one of the layers.
    """
    known = _layers(graph)
    if any(not known.get(layer) for layer in layers):
        return None
    nodes = {node.name: node for node in graph.graph.node}
    return [_use(graph.graph, nodes[known[layer][0]]).weight for layer in layers]


def require_supported(plan: Mapping[str, StorageFormat]) -> None:
    """Refuse formats that ONNX Runtime cannot run, before any model is loaded.

    Args:
        plan: Layer name to format.

    Raises:
        InvalidInputError: A format cannot be run; every such layer is named.
    """
    faults = [
        Fault(pointer(("assignment", layer)), reason)
        for layer, fmt in plan.items()
        if (reason := _unsupported(fmt)) and _unsupported(fmt, convolves=True)
    ]
    if faults:
        raise InvalidInputError(*faults)


@dataclass(frozen=True, eq=False)
class _Use:
    node: Any
    name: str  # of the initializer
    weight: Float32Array  # rows are outputs (or entries), as everywhere outside ONNX
    transposed: bool  # whether the file has it the other way round

    @property
    def gathers(self) -> bool:
        return bool(self.node.op_type == "Gather")

    @property
    def convolves(self) -> bool:
        return bool(self.node.op_type == "Conv")


def _layers(graph: Any) -> dict[str, list[str]]:  # noqa: ANN401
    for entry in graph.metadata_props:
        if entry.key == LAYERS_KEY:
            names: dict[str, list[str]] = json.loads(entry.value)
            return names
    export = "quantize.backends.onnxruntime.export.export_onnx"
    detail = f"the file does not say which nodes belong to which layer; export it with {export}"
    raise InvalidInputError(Fault("/model", detail))


def _unsupported(fmt: StorageFormat, *, convolves: bool = False) -> str | None:
    if (foreign := no_code_for(fmt, "onnxruntime")) is not None:
        return foreign
    if fmt.floating:
        return None if fmt.name in {"fp16", "fp32"} else f"the onnxruntime backend has no {fmt.name}"
    if fmt.activation_bits < 16:
        return f"the onnxruntime backend has no {fmt.name}"
    if convolves:
        only = (
            f"ONNX Runtime runs convolutions with int8 (one scale per output), fp16 or fp32, not {fmt.name!r}"
        )
        return None if runtime.convolutions(fmt) is None else only
    if fmt.bits not in runtime.WIDTHS or not fmt.symmetric:
        return f"ONNX Runtime runs symmetric 2, 4 and 8 bits on the CPU; {fmt.name!r} is not one of them"
    if runtime.supported(fmt) is not None:
        sizes = ", ".join(map(str, runtime.GROUPS))
        return f"ONNX Runtime has groups of {sizes}; {fmt.name!r} has {fmt.group_size or 'none'}"
    return None


def _use(graph: Any, node: Any) -> _Use:  # noqa: ANN401
    from onnx import numpy_helper

    name = node.input[WEIGHT_INPUT[node.op_type]]
    stored = numpy_helper.to_array(next(item for item in graph.initializer if item.name == name))
    transposed = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))
    return _Use(node, name, np.ascontiguousarray(stored.T) if transposed else stored, transposed)


def _replace(
    graph: Any,  # noqa: ANN401
    use: _Use,
    fmt: StorageFormat,
    round_to: _RoundTo,
    span: Span | None,
    accuracy_level: int,
) -> None:
    if fmt.name == "fp32":
        return
    if fmt.floating:
        made = [_narrowed(graph, use, fmt)]
    elif use.convolves:
        made = convolution(graph, use.node, round_to(use.weight, fmt), span)
    else:
        made = [_quantized(graph, use, fmt, round_to(use.weight, fmt), accuracy_level)]
    position = next(index for index, node in enumerate(graph.node) if node.name == use.node.name)
    del graph.node[position]
    for node in reversed(made):
        graph.node.insert(position, node)


def _narrowed(graph: Any, use: _Use, fmt: StorageFormat) -> Any:  # noqa: ANN401
    from onnx import NodeProto

    half, single = f"{use.name}.{fmt.name}", f"{use.name}.{fmt.name}.widened"
    stored = round_trip(use.weight, fmt)
    as_before = np.ascontiguousarray(stored.T) if use.transposed else stored
    add_widened(graph, as_before.astype(np.float16), half, single)
    node = NodeProto()
    node.CopyFrom(use.node)
    node.input[WEIGHT_INPUT[node.op_type]] = single
    return node


def _quantized(
    graph: Any,  # noqa: ANN401
    use: _Use,
    fmt: StorageFormat,
    rounded: Quantized,
    accuracy_level: int,
) -> Any:  # noqa: ANN401
    from onnx import helper

    # Two layers may share one initializer and still differ in format, so the format is part of the names.
    stem = f"{use.name}.{fmt.name}{'.gather' if use.gathers else ''}"
    codes, scales = f"{stem}.codes", f"{stem}.scales"
    rows, width = use.weight.shape
    # ONNX Runtime reads unsigned codes around 2^(bits - 1).
    blocks = packed(rounded.codes + 2 ** (fmt.bits - 1), fmt.bits)  # (rows, groups, bytes)
    if use.gathers:
        blocks = blocks.reshape(rows, -1)[:, : -(-width * fmt.bits // 8)]  # Gather wants rows without padding
    add_initializer(graph, blocks, codes)
    add_widened(graph, rounded.scales, f"{stem}.half", scales)
    name, outputs = use.node.name, list(use.node.output)
    attributes = {"domain": _MICROSOFT, "bits": fmt.bits, "block_size": rounded.codes.shape[2]}
    if use.gathers:
        inputs = [codes, use.node.input[1], scales]
        axes = {"gather_axis": 0, "quantize_axis": 1}
        return helper.make_node("GatherBlockQuantized", inputs, outputs, name, **axes, **attributes)
    bias = list(use.node.input[2:3])
    inputs = [use.node.input[0], codes, scales, *(["", "", *bias] if bias else [])]
    shape = {"N": rows, "K": width, "accuracy_level": accuracy_level}
    return helper.make_node("MatMulNBits", inputs, outputs, name, **shape, **attributes)
