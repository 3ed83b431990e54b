"""Olive: the ``quantization_config`` of its checkpoints, with the most common format and ``overrides``.

``mixed_precision_info`` of its selective mixed precision pass (a default and overrides) is read as well.

Source: olive-ai 0.13, ``olive/common/quant/hf_utils.py``, ``olive/passes/pytorch/quant_utils.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from quantize.exports.documents import integer, most_common, read_json, table, texts, whole, width, written
from quantize.exports.rules import EMBEDDINGS, Rules, exact
from quantize.exports.section import section_of
from quantize.exports.target import ExportTarget, Mask, Sheet, any_size, whole_groups
from quantize.formats import StorageFormat


def _render(sheet: Sheet) -> dict[str, str]:
    default = most_common(sheet.formats.values())
    config = {
        "quant_method": "olive",
        **_settings(default),
        "lm_head": "lm_head" in sheet.formats,
        "embeds": any(EMBEDDINGS.search(name) for name in sheet.formats),
        "modules_to_not_convert": list(sheet.alone),
        "overrides": {name: _settings(fmt) for name, fmt in sheet.formats.items() if fmt != default},
    }
    return {"quantization_config.json": written({"quantization_config": config})}


def _settings(fmt: StorageFormat) -> dict[str, Any]:
    return {"bits": fmt.bits, "symmetric": fmt.symmetric, "group_size": fmt.group_size or -1}


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    config, _ = section_of(document, name, "olive")
    config = table(config.get("mixed_precision_info", config), name, "mixed_precision_info")
    default = _format(table(config.get("default", config), name, "default"), None, name)
    alone = texts(config.get("modules_to_not_convert"), name, "modules_to_not_convert")
    overrides = table(config.get("overrides") or {}, name, "overrides")
    rules = [exact(layer, None) for layer in alone]
    for layer, value in overrides.items():
        where = (name, "overrides", layer)
        rules.append(exact(layer, _format(table(value, *where), default, *where)))
    return Rules(tuple(rules), default, outside=_outside(config))


def _outside(config: Mapping[str, Any]) -> re.Pattern[str] | None:
    # Only a checkpoint says whether the head and embeddings are meant.
    if "quant_method" not in config:
        return None
    parts = ([] if config.get("embeds") else [EMBEDDINGS.pattern]) + (
        [] if config.get("lm_head") else [r"(?:^|\.)lm_head$"]
    )
    return re.compile("|".join(parts)) if parts else None


def _format(settings: Mapping[str, Any], default: StorageFormat | None, *where: str) -> StorageFormat:
    inherited = (
        (None, -1, True) if default is None else (default.bits, default.group_size or -1, default.symmetric)
    )
    bits = width(settings, "bits", *where, default=inherited[0])
    group = whole(settings, "group_size", *where, default=inherited[1])
    return integer(bits, group, symmetric=settings.get("symmetric", inherited[2]) is not False)


TARGET = ExportTarget(
    mask=Mask(symmetric=any_size(2, 4, 8), asymmetric=any_size(2, 4, 8)),
    render=_render,
    parse=_parse,
    files=("quantization_config.json",),
    whole_blocks=whole_groups,
    advice="`overrides` is also the option of that name of Olive's Rtn, Gptq and kquant passes",
)
