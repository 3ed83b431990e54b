"""ONNX Runtime: packed 2, 4 and 8-bit weights, node by node, in one file.

``MatMul`` and ``Gemm`` become ``MatMulNBits``, ``Gather`` becomes ``GatherBlockQuantized``. Codes and scales are those
of :mod:`quantize.rounding`, packed here, so that the file runs exactly what the tables were measured with. Scales are
stored in half precision and widened by a ``Cast`` that ONNX Runtime folds when it loads the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from allocator import Fault, InvalidInputError
from allocator.errors import pointer, require
from quantize.files import replacing, require_free
from quantize.formats import Format
from quantize.methods import NEAREST, Rounding, moment_faults, rounded
from quantize.moments import Moments
from quantize.onnx_export import LAYERS_KEY, WEIGHT_INPUT
from quantize.packing import packed
from quantize.plan import faults_at, require_layers
from quantize.rounding import Float32Array, Quantized, round_trip

_WIDTHS = (2, 4, 8)
_MICROSOFT = "com.microsoft"
#: Accuracy level 4 computes with 8-bit activations; level 0 has no fast kernel for 2 and 8 bits.
_ACCURACY_LEVEL = 4
_RoundTo: TypeAlias = Callable[[Float32Array, Format], Quantized]


def apply(
    model: str | Path,
    plan: Mapping[str, Format],
    *,
    path: str | Path,
    rounding: Rounding = NEAREST,
    moments: Moments | None = None,
    force: bool = False,
) -> Path:
    """Write a quantized copy of an ONNX file made by :func:`quantize.onnx_export.export_onnx`.

    Args:
        model: The file to start from; it is not changed.
        plan: Layer name to format: 2, 4 or 8-bit symmetric integers in groups of a power of two of at least 16, fp16
            or fp32.
        path: File to write; it appears whole or not at all.
        rounding: How codes are chosen.
        moments: Layer name to second moment of its inputs, for roundings that use them.
        force: Whether an earlier file may be replaced.

    Returns:
        ``path``.

    Raises:
        InvalidInputError: The file exists, a layer is not in the model, its moment does not fit, or ONNX Runtime cannot
            run its format; nothing was written.
        MissingPackageError: onnx is not installed.
    """
    onnx = require("onnx", "onnx")
    require_free(Path(path), force=force)
    graph = onnx.load(os.fspath(model))
    layers = _layers(graph)
    require_layers(plan, layers)
    nodes = {node.name: node for node in graph.graph.node}
    uses = [
        (layer, _use(graph.graph, nodes[name]), target)
        for layer, target in plan.items()
        for name in layers[layer]
    ]
    faults = [
        fault
        for layer, use, target in uses
        for fault in faults_at(layer, use.weight, target, _unsupported(target))
    ]
    faults += moment_faults({layer: use.weight.shape for layer, use, _ in uses}, plan, rounding, moments)
    if faults:
        raise InvalidInputError(*dict.fromkeys(faults))
    for layer, use, target in uses:
        _replace(
            graph.graph, use, target, partial(rounded, rounding=rounding, moment=(moments or {}).get(layer))
        )
    _drop_unused(graph.graph)
    if all(entry.domain != _MICROSOFT for entry in graph.opset_import):
        graph.opset_import.append(onnx.helper.make_opsetid(_MICROSOFT, 1))
    with replacing(Path(path)) as unfinished:
        onnx.save(graph, os.fspath(unfinished))
    return Path(path)


def require_supported(plan: Mapping[str, Format]) -> None:
    """Refuse formats that ONNX Runtime cannot run, before any model is loaded.

    Args:
        plan: Layer name to format.

    Raises:
        InvalidInputError: A format cannot be run; every such layer is named.
    """
    faults = [
        Fault(pointer(("assignment", layer)), reason)
        for layer, target in plan.items()
        if (reason := _unsupported(target))
    ]
    if faults:
        raise InvalidInputError(*faults)


@dataclass(frozen=True, eq=False)
class _Use:
    node: Any
    name: str  # of the initializer
    weight: Float32Array  # rows are outputs (or entries), as everywhere outside ONNX

    @property
    def gathers(self) -> bool:
        return bool(self.node.op_type == "Gather")


def _layers(graph: Any) -> dict[str, list[str]]:  # noqa: ANN401
    for entry in graph.metadata_props:
        if entry.key == LAYERS_KEY:
            names: dict[str, list[str]] = json.loads(entry.value)
            return names
    detail = "the file does not say which nodes belong to which layer; export it with quantize.onnx_export.export_onnx"
    raise InvalidInputError(Fault("/model", detail))


def _unsupported(target: Format) -> str | None:
    if target.floating:
        return None if target.name in {"fp16", "fp32"} else f"the onnxruntime backend has no {target.name}"
    if target.activation_bits < 16:
        return f"the onnxruntime backend has no {target.name}"
    group = target.group_size or 0
    if target.bits not in _WIDTHS or not target.symmetric:
        return f"ONNX Runtime runs symmetric 2, 4 and 8 bits on the CPU; {target.name!r} is not one of them"
    if group < 16 or group & (group - 1):
        return f"ONNX Runtime needs groups of a power of two of at least 16; {target.name!r} has {group or 'none'}"
    return None


def _use(graph: Any, node: Any) -> _Use:  # noqa: ANN401
    from onnx import numpy_helper

    name = node.input[WEIGHT_INPUT[node.op_type]]
    stored = numpy_helper.to_array(next(item for item in graph.initializer if item.name == name))
    transposed = node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attribute(node, "transB", 0))
    return _Use(node, name, np.ascontiguousarray(stored.T) if transposed else stored)


def _attribute(node: Any, name: str, default: float) -> float:  # noqa: ANN401
    from onnx import helper

    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def _replace(graph: Any, use: _Use, target: Format, round_to: _RoundTo) -> None:  # noqa: ANN401
    if target.name == "fp32":
        return
    made = (
        _narrowed(graph, use, target)
        if target.floating
        else _quantized(graph, use, target, round_to(use.weight, target))
    )
    position = next(index for index, node in enumerate(graph.node) if node.name == use.node.name)
    del graph.node[position]
    graph.node.insert(position, made)


def _narrowed(graph: Any, use: _Use, target: Format) -> Any:  # noqa: ANN401
    from onnx import NodeProto

    half, single = f"{use.name}.{target.name}", f"{use.name}.{target.name}.widened"
    stored = round_trip(use.weight, target)
    as_before = stored if use.gathers or _attribute(use.node, "transB", 0) else np.ascontiguousarray(stored.T)
    _add_widened(graph, as_before.astype(np.float16), half, single)
    node = NodeProto()
    node.CopyFrom(use.node)
    node.input[WEIGHT_INPUT[node.op_type]] = single
    return node


def _quantized(graph: Any, use: _Use, target: Format, rounded: Quantized) -> Any:  # noqa: ANN401
    from onnx import helper

    # Two layers may share one initializer and still differ in format, so the format is part of the names.
    stem = f"{use.name}.{target.name}{'.gather' if use.gathers else ''}"
    codes, scales = f"{stem}.codes", f"{stem}.scales"
    rows, width = use.weight.shape
    # ONNX Runtime reads unsigned codes around 2^(bits - 1).
    blocks = packed(rounded.codes + 2 ** (target.bits - 1), target.bits)  # (rows, groups, bytes)
    if use.gathers:
        blocks = blocks.reshape(rows, -1)[
            :, : -(-width * target.bits // 8)
        ]  # Gather wants rows without padding
    _add_initializer(graph, blocks, codes)
    _add_widened(graph, rounded.scales, f"{stem}.half", scales)
    name, outputs = use.node.name, list(use.node.output)
    attributes = {"domain": _MICROSOFT, "bits": target.bits, "block_size": rounded.codes.shape[2]}
    if use.gathers:
        inputs = [codes, use.node.input[1], scales]
        axes = {"gather_axis": 0, "quantize_axis": 1}
        return helper.make_node("GatherBlockQuantized", inputs, outputs, name, **axes, **attributes)
    bias = list(use.node.input[2:3])
    inputs = [use.node.input[0], codes, scales, *(["", "", *bias] if bias else [])]
    shape = {"N": rows, "K": width, "accuracy_level": _ACCURACY_LEVEL}
    return helper.make_node("MatMulNBits", inputs, outputs, name, **shape, **attributes)


def _add_widened(graph: Any, half: NDArray[np.float16], stored: str, widened: str) -> None:  # noqa: ANN401
    from onnx import TensorProto, helper

    if _add_initializer(graph, half, stored):
        cast = helper.make_node("Cast", [stored], [widened], name=f"{widened}.cast", to=TensorProto.FLOAT)
        graph.node.insert(0, cast)


def _add_initializer(graph: Any, array: NDArray[Any], name: str) -> bool:  # noqa: ANN401
    from onnx import numpy_helper

    if any(item.name == name for item in graph.initializer):
        return False
    graph.initializer.append(numpy_helper.from_array(array, name))
    return True


def _drop_unused(graph: Any) -> None:  # noqa: ANN401
    read = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    for tensor in [item for item in graph.initializer if item.name not in read]:
        graph.initializer.remove(tensor)
