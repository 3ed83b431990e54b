"""AMD Quark: ``quantization_config`` with one entry per layer, for ``QConfig.from_dict``; vLLM reads the same.

Names are shell patterns, and expressions after ``re:`` among those that are excluded. A layer's own settings go before
those of its class. Nothing is quantized by default in what is written here; what a file states for all layers is for
Linear ones.

Source: amd-quark 0.13, ``quark/torch/quantization/config/config.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.exports.documents import integer, named_float, read_json, table, texts, whole, written
from quantize.exports.names import globbed
from quantize.exports.rules import EMBEDDINGS, Rule, Rules, expression, shell
from quantize.exports.section import section_of
from quantize.exports.target import ExportTarget, Mask, Sheet, any_size, whole_groups
from quantize.formats import StorageFormat, parse_format

_NOTHING = {
    "input_tensors": None,
    "output_tensors": None,
    "weight": None,
    "bias": None,
    "target_device": None,
}
_FLOATS = {"fp8_e4m3": 8, "fp8_e5m2": 8, "fp4": 4, "fp6_e3m2": 6, "fp6_e2m3": 6, "mx": 8, "mx6": 6, "mx9": 9}
#: Formats of ours, where a power of two scales 32 weights.
_MICROSCALED = {"mxfp4": "fp4", "mxfp8": "fp8_e4m3"}
#: Class names: the file does not say which layers are of a class, so names have to.
_KINDS = {"linear": rf"^(?!.*{EMBEDDINGS.pattern})", "embedding": EMBEDDINGS.pattern}
#: Where a file says what is quantized.
_STATED = {"global_quant_config", "layer_quant_config", "layer_type_quant_config"}
_INTEGERS = {"int8", "uint8", "int4", "uint4", "int3", "int2", "uint2"}


def _render(sheet: Sheet) -> dict[str, str]:
    config = {
        "quant_method": "quark",
        "global_quant_config": _NOTHING,
        "layer_type_quant_config": {},
        "layer_quant_config": {
            globbed(name): {**_NOTHING, "weight": _settings(fmt)} for name, fmt in sheet.formats.items()
        },
        "exclude": [globbed(name) for name in sheet.alone],
        "algo_config": None,
        "quant_mode": "eager_mode",
    }
    return {"quantization_config.json": written({"quantization_config": config})}


def _settings(fmt: StorageFormat) -> dict[str, Any]:
    grouped = fmt.group_size is not None
    integers = f"{'' if fmt.symmetric else 'u'}int{fmt.bits}"
    return {
        "dtype": "fp8_e4m3" if fmt.floating else integers,
        "is_dynamic": False,
        "qscheme": "per_group" if grouped else "per_channel",
        "ch_axis": -1 if grouped else 0,
        "group_size": fmt.group_size,
        "symmetric": fmt.symmetric,
        "round_method": "half_even",
        "scale_type": "float",
        "observer_cls": "PerGroupMinMaxObserver" if grouped else "PerChannelMinMaxObserver",
    }


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    config, _ = section_of(document, name, "quark")
    if not _STATED & set(config):
        detail = f"expected one of {', '.join(sorted(_STATED))}, got none"
        raise InvalidInputError(Fault(pointer((name,)), detail))
    layers = table(config.get("layer_quant_config") or {}, name, "layer_quant_config")
    rules = [_left_out(text, name) for text in texts(config.get("exclude"), name, "exclude")]
    notes: list[str] = []
    for layer, value in layers.items():
        where = (name, "layer_quant_config", layer)
        settings = table(value, *where)
        rules.append(shell(layer, _format(settings.get("weight"), *where)))
        if settings.get("input_tensors"):
            notes.append(f"{layer} quantizes activations as well, which a plan of weights does not hold")
    kinds = table(config.get("layer_type_quant_config") or {}, name, "layer_type_quant_config")
    for kind, value in kinds.items():
        where = (name, "layer_type_quant_config", kind)
        fmt = _format(table(value, *where).get("weight"), *where)
        rules.append(
            Rule(kind, re.compile(_KINDS.get(kind.rpartition(".")[2].lower(), "(?!)")), fmt, mode="search")
        )
    overall = table(config.get("global_quant_config") or {}, name, "global_quant_config")
    default = _format(overall.get("weight"), name, "global_quant_config")
    return Rules(tuple(rules), default, tuple(notes), EMBEDDINGS)


def _left_out(text: str, name: str) -> Rule:
    if text.startswith("re:"):
        return expression(text[3:], None, "match", pointer((name, "exclude")), text)
    return shell(text, None)


def _format(weight: object, *where: str) -> StorageFormat | None:
    if weight is None:
        return None
    settings = table(weight, *where, "weight")
    kind = str(settings.get("dtype"))
    group = whole(settings, "group_size", *where, "weight", default=-1)
    if kind == "fp8_e4m3" and settings.get("qscheme") == "per_channel":
        return parse_format("fp8-e4m3")
    if kind == "mx":
        kind = str(settings.get("mx_element_dtype", kind))
    scaled = str(settings.get("scale_format")) == "e8m0" or settings.get("dtype") == "mx"
    if scaled and (ours := named_float(_MICROSCALED, kind, _FLOATS.get(kind, 0), group)):
        return ours
    if kind in _FLOATS:
        return StorageFormat(kind, _FLOATS[kind], floating=True, group_size=group if group > 0 else None)
    if kind not in _INTEGERS:
        known = ", ".join([*sorted(_INTEGERS), *_FLOATS])
        raise InvalidInputError(
            Fault(pointer((*where, "weight", "dtype")), f"unknown dtype {kind!r}; known: {known}")
        )
    symmetric = settings.get("symmetric", not kind.startswith("u"))
    return integer(int(kind[-1]), group, symmetric=symmetric is not False)


TARGET = ExportTarget(
    mask=Mask(symmetric=any_size(2, 3, 4, 8), asymmetric=any_size(2, 4, 8), named=frozenset({"fp8-e4m3"})),
    render=_render,
    parse=_parse,
    files=("quantization_config.json",),
    whole_blocks=whole_groups,
    advice="ModelQuantizer(QConfig.from_dict(config)).quantize_model(model, data)",
)
