"""MLX: ``quantization`` in ``config.json``, the most common format and every other layer by name.

MLX stores a scale and a bias per group, so all its integer formats have a zero point; MX formats are modes of
their own. ``false`` leaves a layer alone.

Source: mlx-lm 0.32, ``mlx_lm/utils.py:load_model``; mlx 0.32, ``mlx.core.quantize``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantize.exports.documents import (
    integer,
    most_common,
    named_float,
    read_json,
    table,
    whole,
    width,
    written,
)
from quantize.exports.rules import Rules, exact
from quantize.exports.target import ExportTarget, Mask, Sheet, sized
from quantize.formats import StorageFormat

_SETTINGS = {"group_size", "bits", "mode", "quant_method", "linear_class", "quantize_activations"}
_MX = frozenset({"mxfp4", "mxfp8"})
_GROUPS = {"mxfp4": 32, "mxfp8": 32, "nvfp4": 16}


def _render(sheet: Sheet) -> dict[str, str]:
    default = most_common(sheet.formats.values())
    layers = {name: _settings(fmt) for name, fmt in sheet.formats.items() if fmt != default}
    alone = dict.fromkeys(sheet.alone, False)
    return {"config.json": written({"quantization": _settings(default) | layers | alone})}


def _settings(fmt: StorageFormat) -> dict[str, Any]:
    mode = fmt.name if fmt.floating else "affine"
    return {"group_size": fmt.group_size, "bits": fmt.bits, "mode": mode}


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    config = table(document, name)
    config = table(config.get("quantization", config), name, "quantization")
    default = _format(config, name, "quantization")
    rules = []
    for layer, value in config.items():
        if layer in _SETTINGS:
            continue
        if isinstance(value, bool):
            rules.append(exact(layer, default if value else None))
        else:
            rules.append(exact(layer, _format(table(value, name, "quantization", layer), name, layer)))
    return Rules(tuple(rules), default)


def _format(settings: Mapping[str, Any], *where: str) -> StorageFormat:
    mode = str(settings.get("mode", "affine"))
    bits = width(settings, "bits", *where, default=4)
    group = whole(settings, "group_size", *where, default=_GROUPS.get(mode, 64))
    if mode != "affine":
        ours = named_float({name: name for name in _MX}, mode, bits, group)
        return ours or StorageFormat(mode, bits, floating=True, group_size=group)
    return integer(bits, group, symmetric=False)


TARGET = ExportTarget(
    mask=Mask(symmetric={}, asymmetric=sized((2, 3, 4, 5, 6, 8), 32, 64, 128), named=_MX),
    render=_render,
    parse=_parse,
    own_name=lambda layer: None if layer in _SETTINGS else layer,
    advice="mlx_lm.convert writes weights; its quant_predicate may return this file's entry for each layer",
)
