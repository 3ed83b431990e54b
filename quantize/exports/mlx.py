"""MLX: ``quantization`` in ``config.json``, the most common format and every other layer by name.

MLX stores a scale and a bias per group, so all its integer formats have a zero point; MX formats are modes of
their own. ``false`` leaves a layer alone.

Experts of a block are one layer there, ``switch_mlp``, and so have one entry.

Source: mlx-lm 0.32, ``mlx_lm/utils.py:load_model``, ``mlx_lm/models/qwen3_moe.py`` (``sanitize``);
mlx 0.32, ``mlx.core.quantize``.
"""

from __future__ import annotations

import re
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
from quantize.exports.section import section_of
from quantize.exports.target import ExportTarget, Mask, Sheet, sized, whole_groups
from quantize.formats import StorageFormat

_SETTINGS = {"group_size", "bits", "mode", "quant_method", "linear_class", "quantize_activations"}
_MX = frozenset({"mxfp4", "mxfp8"})
#: An expert of a block, or all of them in one parameter, and Mixtral's names for its projections.
_EXPERT = re.compile(r"(.+)\.experts\.(?:\d+\.)?(\w+)")
_PROJECTIONS = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
_GROUPS = {"mxfp4": 32, "mxfp8": 32, "nvfp4": 16}


def own_name(layer: str) -> str | None:
    """Name of a layer in MLX.

    Args:
        layer: Module path in the checkpoint.

    Returns:
        The name, which experts of a block share; None where it would be taken for a setting.

    Example:
        >>> own_name("model.layers.0.mlp.experts.7.up_proj"), own_name("l.0.block_sparse_moe.experts.1.w2")
        ('model.layers.0.mlp.switch_mlp.up_proj', 'l.0.block_sparse_moe.switch_mlp.down_proj')
    """
    found = _EXPERT.fullmatch(layer)
    if found:
        return f"{found[1]}.switch_mlp.{_PROJECTIONS.get(found[2], found[2])}"
    return None if layer in _SETTINGS else layer


def is_stack(name: str) -> bool:
    """Whether a layer holds all experts of a block.

    Args:
        name: Its name in MLX.

    Returns:
        True for ``switch_mlp``.
    """
    return ".switch_mlp." in name


def _render(sheet: Sheet) -> dict[str, str]:
    default = most_common(sheet.formats.values())
    layers = {
        part: _settings(fmt) for name, fmt in sheet.formats.items() if fmt != default for part in _parts(name)
    }
    alone = dict.fromkeys((part for name in sheet.alone for part in _parts(name)), False)
    return {"config.json": written({"quantization": _settings(default) | layers | alone})}


def _parts(name: str) -> list[str]:
    # What a checkpoint stores as one is split at load.
    stack, both, _ = name.partition("gate_up_proj")
    return [name, f"{stack}gate_proj", f"{stack}up_proj"] if both and is_stack(name) else [name]


def _settings(fmt: StorageFormat) -> dict[str, Any]:
    mode = fmt.name if fmt.floating else "affine"
    return {"group_size": fmt.group_size, "bits": fmt.bits, "mode": mode}


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    config = table(document, name)
    if "quantization" in config:
        config = table(config["quantization"], name, "quantization")
    else:
        config, _ = section_of(document, name, "mlx")
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
    files=("config.json",),
    whole_blocks=whole_groups,
    own_name=own_name,
    is_stack=is_stack,
    unnamed="the most common format",
    advice="mlx_lm.convert writes weights; its quant_predicate may return this file's entry for each layer",
)
