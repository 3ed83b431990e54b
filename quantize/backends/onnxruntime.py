"""ONNX Runtime: packed 2, 4 and 8-bit weights, node by node, in one file.

``MatMul`` becomes ``MatMulNBits`` and ``Gather`` becomes ``GatherBlockQuantized``. Codes and scales are those of
:mod:`quantize.rounding`, packed here, so that the file runs exactly what the tables were measured with. Scales are
stored in half precision and widened by a ``Cast`` that ONNX Runtime folds when it loads the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allocator import Fault, InvalidInputError
from allocator.errors import pointer, require
from quantize.files import replacing
from quantize.formats import Format
from quantize.onnx_export import LAYERS_KEY
from quantize.plan import require_layers
from quantize.rounding import Quantized, quantize

_WIDTHS = (2, 4, 8)
_MICROSOFT = "com.microsoft"
#: Accuracy level 4 computes with 8-bit activations; level 0 has no fast kernel for 2 and 8 bits.
_ACCURACY_LEVEL = 4


def apply(model: str | Path, plan: Mapping[str, Format], *, path: str | Path) -> Path:
    """Write a quantized copy of an ONNX file made by :func:`quantize.onnx_export.export_onnx`.

    Args:
        model: The file to start from; it is not changed.
        plan: Layer name to format: 2, 4 or 8-bit symmetric integers in groups of a power of two of at least 16, fp16
            or fp32.
        path: File to write; it appears whole or not at all.

    Returns:
        ``path``.

    Raises:
        InvalidInputError: A layer is not in the file, or ONNX Runtime cannot run its format; nothing was written.
        MissingPackageError: onnx is not installed.
    """
    onnx = require("onnx", "onnx")
    require("onnx.numpy_helper", "onnx")
    graph = onnx.load(os.fspath(model))
    initializers = _initializer_names(graph)
    require_layers(plan, initializers)
    faults = [
        Fault(pointer(("assignment", layer)), reason)
        for layer, target in plan.items()
        if (reason := _refusal(target))
    ]
    if faults:
        raise InvalidInputError(*faults)
    for layer, target in plan.items():
        _replace(graph.graph, initializers[layer], target)
    if all(entry.domain != _MICROSOFT for entry in graph.opset_import):
        graph.opset_import.append(onnx.helper.make_opsetid(_MICROSOFT, 1))
    with replacing(Path(path)) as partial:
        onnx.save(graph, os.fspath(partial))
    return Path(path)


def pack(codes: NDArray[np.int16], bits: int) -> NDArray[np.uint8]:
    """Pack signed codes as ONNX Runtime reads them: offset to unsigned, the first code in the lowest bits.

    Args:
        codes: (…, size) codes of 2, 4 or 8 bits.
        bits: Their width.

    Returns:
        (…, size · bits / 8) bytes.

    Example:
        >>> pack(np.array([-8, 7], dtype=np.int16), 4).tolist()
        [240]
    """
    offset = (codes + 2 ** (bits - 1)).astype(np.uint8)
    per_byte = 8 // bits
    split = offset.reshape(*offset.shape[:-1], -1, per_byte)
    shifts = (np.arange(per_byte) * bits).astype(np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(split << shifts, axis=-1).astype(np.uint8)
    return packed


def _initializer_names(graph: Any) -> dict[str, str]:  # noqa: ANN401
    for entry in graph.metadata_props:
        if entry.key == LAYERS_KEY:
            names: dict[str, str] = json.loads(entry.value)
            return names
    detail = (
        "the file does not say which initializer belongs to which layer; export it with quantize.export_onnx"
    )
    raise InvalidInputError(Fault("/model", detail))


def _refusal(target: Format) -> str | None:
    if target.floating:
        return None if target.name in {"fp16", "fp32"} else f"the onnxruntime backend has no {target.name}"
    group = target.group_size or 0
    if target.bits not in _WIDTHS or not target.symmetric:
        return f"ONNX Runtime runs symmetric 2, 4 and 8 bits on the CPU; {target.name!r} is not one of them"
    if group < 16 or group & (group - 1):
        return f"ONNX Runtime needs groups of a power of two of at least 16; {target.name!r} has {group or 'none'}"
    return None


def _replace(graph: Any, name: str, target: Format) -> None:  # noqa: ANN401
    from onnx import numpy_helper

    if target.name == "fp32":
        return
    tensor = next(item for item in graph.initializer if item.name == name)
    weight = numpy_helper.to_array(tensor)
    users = [(index, node) for index, node in enumerate(graph.node) if name in node.input]
    graph.initializer.remove(tensor)
    if target.floating:
        graph.initializer.append(numpy_helper.from_array(weight.astype(np.float16), f"{name}.{target.name}"))
        graph.node.insert(0, _widen(f"{name}.{target.name}", name))
        return
    gathers = all(node.op_type == "Gather" for _, node in users)
    rounded = quantize(weight if gathers else np.ascontiguousarray(weight.T), target)
    rows, groups, size = rounded.codes.shape
    packed = pack(rounded.codes, target.bits)
    stored = packed.reshape(rows, -1) if gathers else packed
    graph.initializer.append(numpy_helper.from_array(stored, f"{name}.codes"))
    graph.initializer.append(numpy_helper.from_array(rounded.scales, f"{name}.half"))
    for index, node in users:
        graph.node.remove(node)
        graph.node.insert(index, _quantized_node(node, name, rounded, target.bits, size))
    graph.node.insert(0, _widen(f"{name}.half", f"{name}.scales"))
    del groups


def _quantized_node(node: Any, name: str, rounded: Quantized, bits: int, size: int) -> Any:  # noqa: ANN401
    from onnx import helper

    codes, scales = f"{name}.codes", f"{name}.scales"
    common = {
        "name": node.name,
        "outputs": list(node.output),
        "domain": _MICROSOFT,
        "bits": bits,
        "block_size": size,
    }
    if node.op_type == "Gather":
        inputs = [codes, node.input[1], scales]
        return helper.make_node("GatherBlockQuantized", inputs, gather_axis=0, quantize_axis=1, **common)
    rows, columns = rounded.shape
    inputs = [node.input[0], codes, scales]
    return helper.make_node(
        "MatMulNBits", inputs, N=rows, K=columns, accuracy_level=_ACCURACY_LEVEL, **common
    )


def _widen(half: str, single: str) -> Any:  # noqa: ANN401
    from onnx import TensorProto, helper

    return helper.make_node("Cast", [half], [single], name=f"{single}.widen", to=TensorProto.FLOAT)
