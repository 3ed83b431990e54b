"""llm-compressor: a recipe for ``llmcompressor.oneshot``.

The same groups as compressed-tensors, under a modifier. ``GPTQModifier`` may replace ``QuantizationModifier`` by hand.

Source: llm-compressor 0.14, ``modifiers/quantization/quantization/mixin.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import require
from quantize.exports.compressed_tensors import MASK, config_groups, ignored, read_groups
from quantize.exports.documents import read_yaml, table
from quantize.exports.rules import Rules
from quantize.exports.target import ExportTarget, Sheet, whole_groups


def _render(sheet: Sheet) -> dict[str, str]:
    modifier = {"ignore": ignored(sheet), "config_groups": config_groups(sheet)}
    recipe = {"quant_stage": {"quant_modifiers": {"QuantizationModifier": modifier}}}
    yaml = require("yaml", "exports")
    return {"recipe.yaml": yaml.safe_dump(recipe, sort_keys=False, width=110)}


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_yaml(files)
    found = list(_modifiers(document))
    if len(found) != 1:
        detail = f"expected one modifier with config_groups, found {len(found)}"
        raise InvalidInputError(Fault(f"/{name}", detail))
    return read_groups(found[0], name)


def _modifiers(document: object) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        return []
    if "config_groups" in document:
        return [table(document)]
    return [found for value in document.values() for found in _modifiers(value)]


TARGET = ExportTarget(
    mask=MASK,
    render=_render,
    parse=_parse,
    files=("recipe.yaml",),
    whole_blocks=whole_groups,
    advice="oneshot(model=model, recipe='recipe.yaml')",
)
