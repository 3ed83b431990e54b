"""auto-round: ``layer_config`` for ``AutoRound(model, layer_config=…)``; reads ``extra_config`` of its checkpoints too.

Every layer is named with all its settings, so that the global scheme does not matter to the plan; 16 bits leave a layer
alone. 8 bits with zero points are refused there, for vLLM cannot run them. A name that is no layer is taken as an
expression and searched for anywhere, in which a bare dot is escaped.

Source: auto-round 0.16, ``compressors/layer_config_resolver.py``, ``utils/common.py:to_standard_regex``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from allocator.contract.errors import pointer
from quantize.exports.documents import integer, named_float, read_json, table, whole, width, written
from quantize.exports.rules import HEAD_AND_EMBEDDINGS, Rule, Rules, expression
from quantize.exports.target import ExportTarget, Mask, Sheet, any_size, whole_groups
from quantize.formats import StorageFormat

_FLOATS = {"fp8-e4m3": "fp8", "mxfp8": "mx_fp", "mxfp4": "mx_fp"}
_ALONE = {"bits": 16, "act_bits": 16, "data_type": "float"}
_SPECIAL = re.compile(r"\.\*|[\^$|()\[\]?+]")
_BARE_DOT = re.compile(r"(?<!\\)\.(?!\*)")


def _render(sheet: Sheet) -> dict[str, str]:
    layers: dict[str, dict[str, Any]] = {name: _settings(fmt) for name, fmt in sheet.formats.items()}
    return {"layer_config.json": written(layers | {name: _ALONE for name in sheet.alone})}


def _settings(fmt: StorageFormat) -> dict[str, Any]:
    return {
        "bits": fmt.bits,
        "group_size": fmt.group_size or -1,
        "sym": fmt.symmetric,
        "data_type": _FLOATS.get(fmt.name, "int"),
        "act_bits": 16,
    }


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    config = table(document, name)
    config = table(config.get("quantization_config", config), name, "quantization_config")
    if "quant_method" not in config:
        return Rules(tuple(_rules(config, None, name)))
    default = _format(config, None, name)
    extra = table(config.get("extra_config") or {}, name, "extra_config")
    return Rules(tuple(_rules(extra, default, name, "extra_config")), default, outside=HEAD_AND_EMBEDDINGS)


def _rules(layers: Mapping[str, Any], default: StorageFormat | None, *where: str) -> list[Rule]:
    # An exact name goes before every expression.
    plain = [name for name in layers if not _SPECIAL.search(name)]
    order = [*plain, *(name for name in layers if name not in set(plain))]
    return [
        _rule(name, _format(table(layers[name], *where, name), default, *where, name), *where)
        for name in order
    ]


def _rule(text: str, fmt: StorageFormat | None, *where: str) -> Rule:
    if not _SPECIAL.search(text):
        return Rule(text, re.compile(re.escape(text)), fmt, text)
    return expression(_BARE_DOT.sub(r"\.", text), fmt, "search", pointer((*where, text)), text)


def _format(settings: Mapping[str, Any], default: StorageFormat | None, *where: str) -> StorageFormat | None:
    inherited = (4, 128, True) if default is None else (default.bits, default.group_size, default.symmetric)
    bits = width(settings, "bits", *where, default=inherited[0])
    if bits >= 16:
        return None
    group = whole(settings, "group_size", *where, default=inherited[1] or -1)
    data_type = str(settings.get("data_type", "int"))
    if not data_type.startswith("int"):
        ours = named_float(_FLOATS, data_type, bits, group)
        return ours or StorageFormat(data_type, bits, floating=True, group_size=group if group > 0 else None)
    return integer(bits, group, symmetric=settings.get("sym", inherited[2]) is not False)


TARGET = ExportTarget(
    mask=Mask(symmetric=any_size(*range(2, 9)), asymmetric=any_size(*range(2, 8)), named=frozenset(_FLOATS)),
    render=_render,
    parse=_parse,
    files=("layer_config.json",),
    whole_blocks=whole_groups,
    own_name=lambda layer: None if _SPECIAL.search(layer) else layer,
    advice="AutoRound(model, tokenizer, layer_config=json.load(file)).quantize()",
)
