"""llm-compressor: a recipe for ``llmcompressor.oneshot``.

The same groups as compressed-tensors, under a modifier. ``GPTQModifier`` may replace ``QuantizationModifier`` by hand.

Recipes of others name a ``scheme`` with its ``targets`` instead of groups, or several schemes with the layers of each.
A recipe may hold several modifiers that quantize: of those whose targets name a layer, the last has it. Modifiers that
have neither a scheme nor groups (SmoothQuant, SparseGPT) say nothing of formats.

Source: llm-compressor 0.14, ``modifiers/quantization/quantization/mixin.py:resolve_quantization_config``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer, require
from quantize.exports.compressed_tensors import MASK, config_groups, ignored, read_groups
from quantize.exports.documents import read_json, read_yaml, table, texts
from quantize.exports.presets import preset
from quantize.exports.rules import Rule, Rules
from quantize.exports.target import ExportTarget, Sheet, whole_groups

_QUANTIZING = ("config_groups", "scheme", "kv_cache_scheme")


def _render(sheet: Sheet) -> dict[str, str]:
    modifier = {"ignore": ignored(sheet), "config_groups": config_groups(sheet)}
    recipe = {"quant_stage": {"quant_modifiers": {"QuantizationModifier": modifier}}}
    yaml = require("yaml", "exports")
    return {"recipe.yaml": yaml.safe_dump(recipe, sort_keys=False, width=110)}


def _parse(files: Mapping[str, str]) -> Rules:
    plain = any(name.endswith((".yaml", ".yml")) for name in files)
    document, name = read_yaml(files) if plain or not files else read_json(files)
    found = [
        _rules(modifier, *where)
        for where, modifier in _modifiers(document, (name,))
        if any(modifier.get(key) is not None for key in _QUANTIZING)
    ]
    if not found:
        detail = "expected a modifier with a scheme or config_groups, found none"
        raise InvalidInputError(Fault(pointer((name,)), detail))
    if len(found) == 1:
        return found[0]
    rules = tuple(rule for one in reversed(found) for rule in _without_ignored(one))
    return Rules(rules, notes=tuple(note for one in found for note in one.notes))


def _modifiers(document: object, where: tuple[str | int, ...]) -> Iterator[tuple[Any, dict[str, Any]]]:
    if isinstance(document, list):
        for index, value in enumerate(document):
            yield from _modifiers(value, (*where, index))
    if not isinstance(document, dict):
        return
    if any(key in document for key in (*_QUANTIZING, "targets")):
        yield where, document
        return
    for key, value in document.items():
        yield from _modifiers(value, (*where, str(key)))


def _rules(modifier: Mapping[str, Any], *where: str) -> Rules:
    scheme, groups = modifier.get("scheme"), modifier.get("config_groups")
    if scheme is not None and groups is not None:
        raise InvalidInputError(Fault(pointer(where), "expected a scheme or config_groups, got both"))
    if scheme is None and groups is None:
        groups = {}
    if groups is None:
        given = {scheme: modifier.get("targets", "Linear")} if isinstance(scheme, str) else scheme
        at = (*where, "scheme")
        groups = {
            f"group_{index}": {**preset(str(key), *at), "targets": _targets(layers, *at)}
            for index, (key, layers) in enumerate(table(given, *at).items())
        }
    return read_groups({**modifier, "config_groups": groups}, *where)


def _targets(value: object, *where: str) -> list[str]:
    return [value] if isinstance(value, str) else texts(value, *where)


def _without_ignored(rules: Rules) -> Iterator[Rule]:
    # What one modifier ignores, another may still quantize: its own rules pass such layers over.
    ignored = [_anywhere(rule) for rule in rules.rules if rule.place is None]
    never = "".join(f"(?!{pattern})" for pattern in ignored)
    for rule in rules.rules:
        if rule.place is None:
            continue
        if rule.name is not None:
            if not re.match(never, rule.name):
                continue
            yield rule
        else:
            yield replace(rule, pattern=re.compile(f"^{never}{_anywhere(rule)}"), mode="match")


def _anywhere(rule: Rule) -> str:
    ends = {"fullmatch": "$", "match": "", "search": ""}[rule.mode]
    return f"{'.*' if rule.mode == 'search' else ''}(?:{rule.pattern.pattern}){ends}"


TARGET = ExportTarget(
    mask=MASK,
    render=_render,
    parse=_parse,
    files=("recipe.yaml",),
    whole_blocks=whole_groups,
    advice="oneshot(model=model, recipe='recipe.yaml')",
)
