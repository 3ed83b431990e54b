r"""torchao: ``FqnToConfig`` as JSON, for ``torchao.core.config.config_from_dict`` and transformers' ``TorchAoConfig``.

Names are exact; ``null`` leaves a module alone. Foreign files may hold ``re:`` patterns, matched in full, first come
first served after exact names; or one configuration for all Linear modules, with the modules that transformers passes
over. Zero points are signed there; formats and bytes are the same. MX formats round a layer's
inputs too; their kernel is left to torchao, and has to be ``EMULATED`` on a CPU.

Source: torchao 0.18, ``torchao/quantization/quant_api.py`` and ``torchao/core/config.py``; transformers
``quantizers/quantizer_torchao.py`` and ``should_convert_module`` of ``quantizers/quantizers_utils.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.exports.documents import integer, read_json, table, texts, whole, written
from quantize.exports.rules import EMBEDDINGS, HEAD_AND_EMBEDDINGS, Rule, Rules, exact, expression
from quantize.exports.section import section_of
from quantize.exports.target import ExportTarget, Mask, Sheet, any_size, whole_groups
from quantize.formats import DYNAMIC, StorageFormat, parse_format

_WHERE = "fqn_to_config"
_FLOAT8 = "Float8WeightOnlyConfig"
_FLOAT8_INPUTS = "Float8DynamicActivationFloat8WeightConfig"
_INT8_INPUTS = "Int8DynamicActivationInt8WeightConfig"
_INTX_INPUTS = "Int8DynamicActivationIntxWeightConfig"
_INT4_INPUTS = "Int8DynamicActivationInt4WeightConfig"
_BYTES = {"_data": "int8"}
_ROUND_INPUTS = frozenset({_INTX_INPUTS, _INT4_INPUTS})
_NONE = re.compile(r"(?!)")
_GROUPS_OF_32 = {"_type": "PerGroup", "_data": {"group_size": 32}}
_MX = "MXDynamicActivationMXWeightConfig"
_MX_TYPES = {"mxfp8": "float8_e4m3fn", "mxfp4": "float4_e2m1fn_x2"}


def _render(sheet: Sheet) -> dict[str, str]:
    layers = {name: _config(fmt) for name, fmt in sheet.formats.items()} | dict.fromkeys(sheet.alone)
    document = {"_type": "FqnToConfig", "_version": 1, "_data": {_WHERE: layers}}
    return {"torchao_config.json": written(document)}


def _config(fmt: StorageFormat) -> dict[str, Any]:
    per_row = _node("PerRow", 1, dim=-1)
    if fmt.name == DYNAMIC:
        symmetric = _leaf("MappingType", "SYMMETRIC")
        return _node(
            _INT8_INPUTS, 2, act_mapping_type=symmetric, weight_only_decode=False, granularity=per_row,
            set_inductor_config=True, reduce_range=False,
        )  # fmt: skip
    if fmt.name in _MX_TYPES:
        dtype = _leaf("torch.dtype", _MX_TYPES[fmt.name])
        return _node(
            _MX, 1, block_size=fmt.group_size, activation_dtype=dtype, weight_dtype=dtype,
            kernel_preference=_leaf("KernelPreference", "AUTO"),
            scaling_mode=_leaf("ScaleCalculationMode", "FLOOR"),
        )  # fmt: skip
    if fmt.floating:
        dtype = _leaf("torch.dtype", "float8_e4m3fn")
        return _node(_FLOAT8, 2, weight_dtype=dtype, set_inductor_config=True, granularity=per_row)
    group = fmt.group_size
    return _node(
        "IntxWeightOnlyConfig", 2,
        weight_dtype=_leaf("torch.dtype", f"int{fmt.bits}"),
        granularity=_node("PerGroup", 1, group_size=group) if group else _node("PerAxis", 1, axis=0),
        mapping_type=_leaf("MappingType", "SYMMETRIC" if fmt.symmetric else "ASYMMETRIC"),
        scale_dtype=None,
        intx_packing_format=_leaf("IntxPackingFormat", "UNPACKED_TO_INT8"),
        intx_choose_qparams_algorithm=_leaf("IntxChooseQParamsAlgorithm", "AFFINE"),
    )  # fmt: skip


def _node(kind: str, version: int, **data: object) -> dict[str, Any]:
    return {"_type": kind, "_version": version, "_data": data}


def _leaf(kind: str, value: str) -> dict[str, Any]:
    return {"_type": kind, "_data": value}


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    document = table(document, name)
    skipped: tuple[Rule, ...] = ()
    outside: re.Pattern[str] | None = None
    if "quant_type" in document or not _ours(document):
        config, _ = section_of(document, name, "torchao")
        skipped, outside = _passed_over(config, name), _outside(config)
        document = table(
            table(config.get("quant_type"), name, "quant_type").get("default"), name, "quant_type"
        )
    if not _by_name(document):
        return Rules(skipped, _format(document, name), _about_inputs([document]), outside or EMBEDDINGS)
    data = table(document.get("_data"), name, "_data")
    layers = table(
        data.get(_WHERE) or data.get("module_fqn_to_config", data.get(_WHERE)), name, "_data", _WHERE
    )
    named, patterns = [], []
    default: StorageFormat | None = None
    notes: tuple[str, ...] = ("_default covers Linear modules only",) if "_default" in layers else ()
    for text, config in layers.items():
        fmt = None if config is None else _format(table(config, name, text), name, text)
        if text == "_default":
            default = fmt
        elif text.startswith("re:"):
            at = pointer((name, text))
            patterns.append(expression(text[3:].removesuffix(r"\.weight"), fmt, "fullmatch", at, text))
        else:
            named.append(_named(text, fmt))
    notes += _about_inputs(layers.values())
    return Rules((*skipped, *named, *patterns), default, notes, outside or EMBEDDINGS)


def _ours(document: Mapping[str, Any]) -> bool:
    # What quantize_ takes, as it is; anything else is a checkpoint's config.json.
    return not {"quantization_config", "compression_config", "model_type", "architectures"} & set(document)


def _by_name(document: Mapping[str, Any]) -> bool:
    kind = document.get("_type")
    return kind is None or str(kind) in {"FqnToConfig", "ModuleFqnToConfig"}


def _passed_over(config: Mapping[str, Any], name: str) -> tuple[Rule, ...]:
    where = (name, "modules_to_not_convert")
    return tuple(
        expression(rf"(?:{key})(?:(?<=\.)|(?=\.|$))|.*{re.escape(key)}$", None, "match", pointer(where), key)
        for key in texts(config.get(where[1]), *where)
    )


def _outside(config: Mapping[str, Any]) -> re.Pattern[str] | None:
    if config.get("include_input_output_embeddings"):
        return _NONE
    # transformers passes over the head itself where the file has no list of its own.
    return HEAD_AND_EMBEDDINGS if config.get("modules_to_not_convert") is None else EMBEDDINGS


def _about_inputs(configs: Iterable[Any]) -> tuple[str, ...]:
    kinds = {str(config.get("_type")) for config in configs if isinstance(config, Mapping)}
    return tuple(
        f"{kind} rounds inputs to 8 bits too; only weights are read" for kind in sorted(kinds & _ROUND_INPUTS)
    )


def _named(text: str, fmt: StorageFormat | None) -> Rule:
    return exact(text.removesuffix(".weight"), fmt)


def _format(config: Mapping[str, Any], *where: str) -> StorageFormat:
    kind, data = str(config.get("_type")), table(config.get("_data", {}), *where)
    if kind == _INT4_INPUTS:
        mapping = table(data.get("mapping_type") or {}, *where, "mapping_type").get("_data")
        group = whole(data, "group_size", *where, default=32)
        return integer(4, group, symmetric=mapping != "ASYMMETRIC")
    if kind == _INTX_INPUTS:
        data = {
            "weight_dtype": data.get("weight_dtype", _BYTES),
            "granularity": data.get("weight_granularity", _GROUPS_OF_32),
            "mapping_type": data.get("weight_mapping_type"),
        }
    if kind in ("IntxWeightOnlyConfig", _INTX_INPUTS):
        dtype = str(table(data.get("weight_dtype"), *where, "weight_dtype").get("_data", ""))
        bits = dtype.removeprefix("int")
        if bits.isdigit() and 1 <= int(bits) <= 8:
            mapping = data.get("mapping_type") or {"_data": "SYMMETRIC"}
            symmetric = table(mapping, *where, "mapping_type").get("_data") != "ASYMMETRIC"
            return integer(int(bits), _group(data, *where), symmetric=symmetric)
    if kind == "Int8WeightOnlyConfig":
        return integer(8, _group(data, *where), symmetric=True)
    if kind == _INT8_INPUTS:
        return parse_format(DYNAMIC)
    if kind == "Int4WeightOnlyConfig":
        return integer(4, whole(data, "group_size", *where, default=128), symmetric=False)
    if kind in (_FLOAT8, _FLOAT8_INPUTS):
        return _float8(kind, data, *where)
    if kind == _MX:
        stored = table(data.get("weight_dtype") or {}, *where, "weight_dtype").get("_data", "float8_e4m3fn")
        for name, dtype in _MX_TYPES.items():
            if dtype == stored:
                return parse_format(name)
    known = (
        "IntxWeightOnlyConfig, Int8WeightOnlyConfig, Int4WeightOnlyConfig, "
        f"{_INT8_INPUTS}, {_INTX_INPUTS}, {_INT4_INPUTS}, {_FLOAT8}, {_FLOAT8_INPUTS}, {_MX}"
    )
    raise InvalidInputError(Fault(pointer(where), f"cannot read the configuration {kind!r}; known: {known}"))


def _float8(kind: str, data: Mapping[str, Any], *where: str) -> StorageFormat:
    dtype = table(data.get("weight_dtype") or {}, *where, "weight_dtype").get("_data", "float8_e4m3fn")
    given = data.get("granularity") or {}
    # torchao writes one of inputs and one of weights.
    given = given[-1] if isinstance(given, list) else given
    granularity = table(given, *where, "granularity").get("_type", "PerRow")
    if (kind, dtype, granularity) == (_FLOAT8, "float8_e4m3fn", "PerRow"):
        return parse_format("fp8-e4m3")
    return StorageFormat(f"fp8_{str(dtype).removeprefix('float8_').removesuffix('fn')}", 8, floating=True)


def _group(data: Mapping[str, Any], *where: str) -> int | None:
    granularity = table(data.get("granularity") or {}, *where, "granularity")
    inner = table(granularity.get("_data", {}), *where, "granularity")
    return (
        whole(inner, "group_size", *where, "granularity") if granularity.get("_type") == "PerGroup" else None
    )


TARGET = ExportTarget(
    mask=Mask(
        symmetric=any_size(*range(2, 9)),  # torchao itself rounds every weight to zero with one
        asymmetric=any_size(*range(1, 9)),
        named=frozenset({"fp8-e4m3", *_MX_TYPES, DYNAMIC}),
    ),
    render=_render,
    parse=_parse,
    files=("torchao_config.json",),
    whole_blocks=whole_groups,
    own_name=lambda layer: None if layer.startswith("re:") or layer == "_default" else layer,
    advice="quantize_(model, config_from_dict(json.load(file)), filter_fn=None)",
)
