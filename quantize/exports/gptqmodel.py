r"""GPTQModel: ``quantize_config.json`` with the most common format and ``dynamic`` rules for all others.

Layers that vLLM and SGLang fuse (q, k, v; gate, up) share one rule that also matches the fused name: those runtimes
look the rule up by ``…qkv_proj``, and a rule for ``…q_proj`` alone would be passed over in silence. Experts of a block,
which they stack, share a rule that matches the block.

Checkpoints are read as well, with AutoAWQ's names for settings (``w_bit``, ``q_group_size``): parts of names that
``modules_to_not_convert`` leaves alone (AWQ, whose ``zero_point`` says that codes have one), and the only parts that
``modules_in_block_to_quantize`` lets be quantized.

Source: GPTQModel 7.7, ``quantization/config.py`` (first rule that matches from the start wins; ``-:`` leaves alone);
vLLM, ``quantization/utils/gptq_utils.py``, ``quantization/awq.py`` and ``quantization/gptq.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from allocator.contract.errors import pointer
from quantize.exports.documents import (
    entries,
    integer,
    most_common,
    read_json,
    table,
    texts,
    whole,
    width,
    written,
)
from quantize.exports.names import anchored, escaped
from quantize.exports.rules import EMBEDDINGS, HEAD_AND_EMBEDDINGS, Rule, Rules, expression
from quantize.exports.section import section_of
from quantize.exports.target import ROW, ExportTarget, Mask, Sheet, sized, whole_groups
from quantize.formats import StorageFormat
from quantize.fused import expert_blocks, fused_groups

#: AutoAWQ's names for settings.
_AWQ = {"w_bit": "bits", "q_group_size": "group_size"}
_SIZES = (ROW, 16, 32, 64, 128, 256, 512, 1024)


def _render(sheet: Sheet) -> dict[str, str]:
    default = most_common(sheet.formats.values())
    formats: dict[str, StorageFormat | None] = {**dict.fromkeys(sheet.alone), **sheet.formats}
    dynamic = {
        f"-:{pattern}" if fmt is None else f"+:{pattern}": {} if fmt is None else _settings(fmt)
        for pattern, fmt in _patterns(formats).items()
        if fmt != default
    }
    config = {
        **_settings(default),
        "desc_act": False,
        "quant_method": "gptq",
        "checkpoint_format": "gptq",
        "pack_dtype": "int32",
        "lm_head": "lm_head" in sheet.formats,
        "dynamic": dynamic,
    }
    return {"quantize_config.json": written(config)}


def _patterns(formats: Mapping[str, StorageFormat | None]) -> dict[str, StorageFormat | None]:
    shared = {
        layer: pattern
        for pattern, layers in _shared(formats).items()
        for layer in layers
        if len({formats[other] for other in layers}) == 1
    }
    return {shared.get(layer, anchored(layer)): fmt for layer, fmt in formats.items()}


def _shared(formats: Mapping[str, StorageFormat | None]) -> dict[str, tuple[str, ...]]:
    patterns = {}
    for whole_name, shards in fused_groups(formats).items():
        parent, dot, fused = whole_name.rpartition(".")
        ends = [name.rpartition(".")[2] for name in shards]
        patterns[f"^{escaped(parent + dot)}(?:{'|'.join(map(escaped, [*ends, fused]))})$"] = shards
    for block, layers in expert_blocks(formats).items():
        patterns[rf"^{escaped(block)}(?:\.\d+\..+)?$"] = layers
    return patterns


def _settings(fmt: StorageFormat) -> dict[str, Any]:
    return {"bits": fmt.bits, "group_size": fmt.group_size or -1, "sym": fmt.symmetric}


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    config, _ = section_of(document, name, "gptqmodel")
    config = {_AWQ.get(key, key): value for key, value in config.items()}
    default = _format(config, None, name)
    dynamic = table(config.get("dynamic") or {}, name, "dynamic")
    rules = [_rule(text, value, default, name) for text, value in dynamic.items()]
    where = (name, "modules_to_not_convert")
    for part in texts(config.get(where[1]), *where):
        rules.append(expression(re.escape(part), None, "search", pointer(where), part))
    return Rules(tuple(rules), default, outside=_outside(config, name))


def _outside(config: Mapping[str, Any], name: str) -> re.Pattern[str]:
    outside = EMBEDDINGS if config.get("lm_head") else HEAD_AND_EMBEDDINGS
    where = (name, "modules_in_block_to_quantize")
    stages = entries(config.get(where[1]) or [], *where)
    parts = [part for stage in stages for part in texts([stage] if isinstance(stage, str) else stage, *where)]
    if not parts:
        return outside
    return re.compile(rf"{outside.pattern}|^(?!.*(?:{'|'.join(map(re.escape, parts))}))")


def _refuses(layer: str) -> str | None:
    return "it quantizes Linear and Conv layers only" if EMBEDDINGS.search(layer) else None


def _rule(text: str, value: object, default: StorageFormat, name: str) -> Rule:
    pattern = text[2:] if text.startswith(("-:", "+:")) else text
    settings = table(value, name, "dynamic", text)
    fmt = None if text.startswith("-:") else _format(settings, default, name, "dynamic", text)
    return expression(pattern, fmt, "match", pointer((name, "dynamic", text)), text)


def _format(settings: Mapping[str, Any], default: StorageFormat | None, *where: str) -> StorageFormat:
    inherited = (
        (None, None, True) if default is None else (default.bits, default.group_size, default.symmetric)
    )
    bits = width(settings, "bits", *where, default=inherited[0])
    group = whole(settings, "group_size", *where, default=inherited[1] or -1)
    symmetric = settings.get("sym", not settings["zero_point"] if "zero_point" in settings else inherited[2])
    return integer(bits, group, symmetric=symmetric is not False)


TARGET = ExportTarget(
    mask=Mask(symmetric=sized((2, 3, 4, 8), *_SIZES), asymmetric=sized((2, 3, 4, 8), *_SIZES)),
    render=_render,
    parse=_parse,
    files=("quantize_config.json",),
    whole_blocks=whole_groups,
    refuses=_refuses,
    advice="layers outside the plan get the most common format unless `others` names them",
)
