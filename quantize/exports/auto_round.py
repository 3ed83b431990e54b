"""auto-round: ``layer_config`` for ``AutoRound(model, layer_config=…)``; reads ``extra_config`` of its checkpoints too.

Every layer is named with all its settings, so that the global scheme does not matter to the plan; 16 bits leave a layer
alone. 8 bits with zero points are refused there, for vLLM cannot run them. A name that is no layer is taken as an
expression and searched for anywhere, in which a bare dot is escaped; settings may be the name of a scheme. What a
checkpoint states once is for the blocks that it names (``block_name_to_quantize``).

Source: auto-round 0.16, ``compressors/layer_config_resolver.py``, ``utils/common.py:to_standard_regex``,
``inference/convert_model.py:get_layer_config``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from allocator.contract.errors import pointer
from quantize.exports.auto_round_schemes import data_type, scheme
from quantize.exports.documents import entries, integer, named_float, read_json, table, whole, width, written
from quantize.exports.rules import HEAD_AND_EMBEDDINGS, Rule, Rules, expression
from quantize.exports.section import section_of
from quantize.exports.target import ExportTarget, Mask, Sheet, any_size, whole_groups
from quantize.formats import StorageFormat
from quantize.llama_types import type_named

_FLOATS = {"fp8-e4m3": "fp8", "mxfp8": "mx_fp", "mxfp4": "mx_fp"}
_ALONE = {"bits": 16, "act_bits": 16, "data_type": "float"}
#: Where a checkpoint names the blocks that are quantized.
_BLOCKS = {"block_name_to_quantize", "to_quant_block_names", "quant_block_list"}
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
    config, at = section_of(document, name, "auto-round")
    if "quant_method" not in config:
        return Rules(tuple(_planned(config, name)), notes=_notes(config.values()))
    default = _format(config, None, *at)
    extra = table(config.get("extra_config") or {}, *at, "extra_config")
    rules = [*_stored(extra, default, *at, "extra_config"), *_blocks(config, default, *at)]
    left = None if _BLOCKS & set(config) else default
    return Rules(tuple(rules), left, _notes([config, *extra.values()]), HEAD_AND_EMBEDDINGS)


def _planned(layers: Mapping[str, Any], *where: str) -> Iterator[Rule]:
    # What is no layer's name is searched for, and the last that matches has the layer, before its own name.
    made = [
        _rule(text, _format(_settings_of(layers[text], *where, text), None, *where, text), *where)
        for text in layers
    ]
    yield from (rule for rule in reversed(made) if rule.name is None)
    yield from (_whole(rule) for rule in made if rule.name is not None or rule.part)


def _stored(layers: Mapping[str, Any], default: StorageFormat | None, *where: str) -> Iterator[Rule]:
    # Of a checkpoint a layer's own name goes before everything else, then the first that matches.
    made = [
        _rule(text, _format(table(layers[text], *where, text), default, *where, text), *where)
        for text in layers
    ]
    yield from (_whole(rule) for rule in made if rule.name is not None or rule.part)
    yield from (rule for rule in made if rule.name is None)


def _blocks(config: Mapping[str, Any], default: StorageFormat | None, *where: str) -> Iterator[Rule]:
    # Only what lies in these blocks has the settings that are stated once.
    for key in sorted(_BLOCKS & set(config)):
        stated = config[key]
        for prefix in _flat(stated.split(",") if isinstance(stated, str) else stated, *where, key):
            never = rf"(?!.*(?:{HEAD_AND_EMBEDDINGS.pattern}))"
            yield Rule(prefix, re.compile(never + re.escape(prefix)), default, mode="match")


def _flat(value: object, *where: str) -> Iterator[str]:
    for item in entries(value, *where):
        yield from (item.strip(),) if isinstance(item, str) else _flat(item, *where)


def _rule(text: str, fmt: StorageFormat | None, *where: str) -> Rule:
    if not _SPECIAL.search(text):
        return Rule(text, re.compile(re.escape(text)), fmt, mode="search", part=True)
    return expression(_BARE_DOT.sub(r"\.", text), fmt, "search", pointer((*where, text)), text)


def _whole(rule: Rule) -> Rule:
    return replace(rule, name=rule.text, mode="fullmatch", part=False)


def _settings_of(value: object, *where: str) -> dict[str, Any]:
    if isinstance(value, str):
        return scheme(value, *where)
    settings = table(value, *where)
    named = settings.get("scheme")
    return {**(scheme(str(named), *where, "scheme") if named is not None else {}), **settings}


def _notes(settings: Iterable[object]) -> tuple[str, ...]:
    rounded = any(
        isinstance(item, Mapping) and isinstance(item.get("act_bits"), int) and item["act_bits"] < 16
        for item in settings
    )
    return ("it quantizes activations as well, which a plan of weights does not hold",) if rounded else ()


def _format(settings: Mapping[str, Any], default: StorageFormat | None, *where: str) -> StorageFormat | None:
    if "type" in settings:
        return type_named(str(settings["type"]))
    inherited = (4, 128, True) if default is None else (default.bits, default.group_size, default.symmetric)
    kind, stated = data_type(str(settings.get("data_type") or "int"))
    bits = width(settings, "bits", *where, default=inherited[0] if stated is None else stated)
    if bits >= 16:
        return None
    # FP8 in blocks has a size per dimension, and pads.
    size = settings.get("group_size")
    group = (
        -1 if isinstance(size, list) else whole(settings, "group_size", *where, default=inherited[1] or -1)
    )
    if kind != "int":
        ours = named_float(_FLOATS, "fp8" if (kind, size) == ("fp", -1) else kind, bits, group)
        name = "fp8" if kind == "fp" and bits == 8 else kind
        return ours or StorageFormat(name, bits, floating=True, group_size=group if group > 0 else None)
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
