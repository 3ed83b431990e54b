"""ONNX Runtime: one pass of ``MatMulNBitsQuantizer`` per format.

Each pass quantizes every MatMul except those it excludes, so the passes exclude each other's nodes. This also reaches
2 bits, which ``customized_weight_config`` leaves in floating point without a word.

Source: onnxruntime 1.31, ``quantization/matmul_nbits_quantizer.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from quantize.exports.documents import entries, integer, read_json, table, texts, whole, width, written
from quantize.exports.rules import Rule, Rules, exact
from quantize.exports.target import ExportTarget, Mask, Sheet, sized
from quantize.formats import StorageFormat

_SIZES = (16, 32, 64, 128, 256)


def own_name(layer: str) -> str:
    """Name of the node that torch's exporter makes from a Linear.

    Args:
        layer: Module path.

    Returns:
        Name of the MatMul.

    Example:
        >>> own_name("model.layers.0.mlp.up_proj")
        '/model/layers.0/mlp/up_proj/MatMul'
    """
    return "/" + re.sub(r"\.(?!\d+(?:\.|$))", "/", layer) + "/MatMul"


def _layer_name(node: str) -> str:
    return node.removeprefix("/").removesuffix("/MatMul").replace("/", ".")


def _render(sheet: Sheet) -> dict[str, str]:
    every = [*sheet.formats, *sheet.alone]
    kinds = dict.fromkeys(sheet.formats.values())
    passes = [
        {
            "bits": kind.bits,
            "block_size": kind.group_size,
            "is_symmetric": kind.symmetric,
            "accuracy_level": 4,
            "nodes": [name for name, fmt in sheet.formats.items() if fmt == kind],
            "nodes_to_exclude": [name for name in every if sheet.formats.get(name) != kind],
        }
        for kind in kinds
    ]
    return {"matmul_nbits.json": written({"passes": passes, "left_alone": list(sheet.alone)})}


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    config = table(document, name)
    if "customized_weight_config" in config:
        return _customized(config, name)
    rules: list[Rule] = []
    for index, item in enumerate(entries(config.get("passes"), name, "passes")):
        settings = table(item, name, "passes", index)
        fmt = _format(settings, "block_size", name, "passes", index)
        rules += [exact(node, fmt) for node in texts(settings.get("nodes"), name, "passes", index, "nodes")]
    rules += [exact(node, None) for node in texts(config.get("left_alone"), name, "left_alone")]
    return Rules(tuple(rules))


def _customized(config: Mapping[str, Any], name: str) -> Rules:
    where = (name, "customized_weight_config")
    rules = [exact(node, None) for node in texts(config.get("nodes_to_exclude"), name, "nodes_to_exclude")]
    for node, value in table(config["customized_weight_config"], *where).items():
        settings = table(value, *where, node)
        fmt = _format(
            {"is_symmetric": settings.get("scheme") == "sym", **settings}, "group_size", *where, node
        )
        rules.append(exact(node, fmt))
    notes = ("only the RTN and k-quant algorithms honour customized_weight_config, and not for 2 bits",)
    return Rules(tuple(rules), notes=notes)


def _format(settings: Mapping[str, Any], size: str, *where: str | int) -> StorageFormat:
    symmetric = settings.get("is_symmetric", False) is True
    bits = width(settings, "bits", *where, default=4)
    return integer(bits, whole(settings, size, *where, default=128), symmetric=symmetric)


TARGET = ExportTarget(
    mask=Mask(symmetric=sized((2, 4, 8), *_SIZES), asymmetric=sized((2, 4, 8), *_SIZES)),
    render=_render,
    parse=_parse,
    files=("matmul_nbits.json",),
    own_name=own_name,
    layer_name=_layer_name,
    advice="run MatMulNBitsQuantizer once per pass with all its settings but `nodes`; MatMul nodes outside the plan "
    "are quantized by the first pass unless `others` names them",
)
