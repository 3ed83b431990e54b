r"""torchao: ``FqnToConfig`` as JSON, for ``torchao.core.config.config_from_dict`` and transformers' ``TorchAoConfig``.

Names are exact; ``null`` leaves a module alone. Foreign files may hold ``re:`` patterns, matched in full, first come
first served after exact names. Zero points are signed there; formats and bytes are the same.

Source: torchao 0.18, ``torchao/quantization/quant_api.py`` and ``torchao/core/config.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.errors import pointer
from quantize.exports.documents import integer, read_json, table, whole, written
from quantize.exports.rules import Rule, Rules, exact, expression
from quantize.exports.target import Mask, Sheet, Target, any_size
from quantize.formats import Format

_WHERE = "fqn_to_config"
#: Configurations that store a float8 or MX weight; bits and group size.
_FLOATING = {"Float8WeightOnlyConfig": 8, "Float8DynamicActivationFloat8WeightConfig": 8}


def _render(sheet: Sheet) -> dict[str, str]:
    layers = {name: _config(target) for name, target in sheet.formats.items()} | dict.fromkeys(sheet.alone)
    document = {"_type": "FqnToConfig", "_version": 1, "_data": {_WHERE: layers}}
    return {"torchao_config.json": written(document)}


def _config(target: Format) -> dict[str, Any]:
    per_group = {"_type": "PerGroup", "_version": 1, "_data": {"group_size": target.group_size}}
    per_row = {"_type": "PerAxis", "_version": 1, "_data": {"axis": 0}}
    return {
        "_type": "IntxWeightOnlyConfig",
        "_version": 2,
        "_data": {
            "weight_dtype": {"_type": "torch.dtype", "_data": f"int{target.bits}"},
            "granularity": per_group if target.group_size else per_row,
            "mapping_type": {
                "_type": "MappingType",
                "_data": "SYMMETRIC" if target.symmetric else "ASYMMETRIC",
            },
            "scale_dtype": None,
            "intx_packing_format": {"_type": "IntxPackingFormat", "_data": "UNPACKED_TO_INT8"},
            "intx_choose_qparams_algorithm": {"_type": "IntxChooseQParamsAlgorithm", "_data": "AFFINE"},
        },
    }


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    document = table(document, name)
    if "quantization_config" in document or "quant_type" in document:
        document = document.get("quantization_config", document)
        document = table(table(document, name).get("quant_type"), name, "quant_type").get("default")
    data = table(table(document, name).get("_data"), name, "_data")
    layers = table(data.get(_WHERE) or data.get("module_fqn_to_config"), name, "_data", _WHERE)
    named, patterns = [], []
    default, notes = None, ("_default covers Linear modules only",) if "_default" in layers else ()
    for text, config in layers.items():
        target = None if config is None else _format(table(config, name, text), name, text)
        if text == "_default":
            default = target
        elif text.startswith("re:"):
            at = pointer((name, text))
            patterns.append(expression(text[3:].removesuffix(r"\.weight"), target, "fullmatch", at, text))
        else:
            named.append(_named(text, target))
    return Rules((*named, *patterns), default, notes)


def _named(text: str, target: Format | None) -> Rule:
    return exact(text.removesuffix(".weight"), target)


def _format(config: Mapping[str, Any], *where: str) -> Format:
    kind, data = str(config.get("_type")), table(config.get("_data", {}), *where)
    if kind == "IntxWeightOnlyConfig":
        dtype = str(table(data.get("weight_dtype"), *where, "weight_dtype").get("_data", ""))
        bits = dtype.removeprefix("int")
        if bits.isdigit() and 1 <= int(bits) <= 8:
            mapping = data.get("mapping_type") or {"_data": "SYMMETRIC"}
            symmetric = table(mapping, *where, "mapping_type").get("_data") != "ASYMMETRIC"
            return integer(int(bits), _group(data, *where), symmetric=symmetric)
    if kind in {"Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"}:
        return integer(8, _group(data, *where), symmetric=True)
    if kind == "Int4WeightOnlyConfig":
        return integer(4, whole(data, "group_size", *where, default=128), symmetric=False)
    if kind in _FLOATING:
        return Format("fp8_e4m3", _FLOATING[kind], floating=True)
    known = "IntxWeightOnlyConfig, Int8WeightOnlyConfig, Int8DynamicActivationInt8WeightConfig, Int4WeightOnlyConfig"
    raise InvalidInputError(Fault(pointer(where), f"cannot read the configuration {kind!r}; known: {known}"))


def _group(data: Mapping[str, Any], *where: str) -> int | None:
    granularity = table(data.get("granularity") or {}, *where, "granularity")
    inner = table(granularity.get("_data", {}), *where, "granularity")
    return (
        whole(inner, "group_size", *where, "granularity") if granularity.get("_type") == "PerGroup" else None
    )


TARGET = Target(
    mask=Mask(symmetric=any_size(*range(1, 9)), asymmetric=any_size(*range(1, 9))),
    render=_render,
    parse=_parse,
    own_name=lambda layer: None if layer.startswith("re:") or layer == "_default" else layer,
    advice="quantize_(model, config_from_dict(json.load(file)), filter_fn=None)",
)
