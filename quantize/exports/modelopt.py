"""ModelOpt: a PTQ recipe (YAML) with one weight quantizer per layer; reads its checkpoints as well.

Everything is switched off first; later entries win. Names are shell patterns for the quantizers of a layer, so brackets
in names are escaped. Recipes of others may take parts from files of the package (``$import``), which are not read here:
they are refused.

Source: nvidia-modelopt 0.47, ``modelopt/torch/quantization/config.py``, ``modelopt/recipe/loader.py``.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer, require
from quantize.exports.documents import entries, integer, read_yaml, table, whole, width
from quantize.exports.modelopt_checkpoint import read_checkpoint
from quantize.exports.names import glob_literal, globbed
from quantize.exports.rules import EMBEDDINGS, Rule, Rules
from quantize.exports.target import ExportTarget, Mask, Sheet, any_size, whole_groups
from quantize.formats import StorageFormat, parse_format

_QUANTIZER = ".weight_quantizer"
#: Quantizers of something else than weights.
_OTHERS = ("input_quantizer", "output_quantizer", "bmm_quantizer")
#: Classes of modules: the file does not say which layers are of a class, so names have to.
_KINDS = {
    "nn.Linear": rf"(?!.*{EMBEDDINGS.pattern.removesuffix('$')}\.weight_quantizer)",
    "nn.Embedding": rf".*{EMBEDDINGS.pattern.removesuffix('$')}\.weight_quantizer",
}
_IMPORT = "$import"
#: Exponent and mantissa bits of floating-point codes, as recipes write them.
_FLOATS = {"[4, 3]": "fp8_e4m3", "e4m3": "fp8_e4m3", "[2, 1]": "fp4_e2m1", "e2m1": "fp4_e2m1"}

_CODES = {"fp8-e4m3": "e4m3", "mxfp8": "e4m3", "mxfp4": "e2m1"}


def _render(sheet: Sheet) -> dict[str, str]:
    layers: list[dict[str, Any]] = [{"quantizer_name": "*", "enable": False}]
    layers += [
        {"quantizer_name": f"{globbed(name)}{_QUANTIZER}", "enable": True, "cfg": _settings(fmt)}
        for name, fmt in sheet.formats.items()
    ]
    layers += [{"quantizer_name": f"{globbed(name)}{_QUANTIZER}", "enable": False} for name in sheet.alone]
    recipe = {
        "metadata": {"recipe_type": "ptq", "description": "mixed precision by bitalloc"},
        "quantize": {"algorithm": "max", "quant_cfg": layers},
    }
    yaml = require("yaml", "exports")
    return {"recipe.yaml": yaml.safe_dump(recipe, sort_keys=False, width=110)}


def _settings(fmt: StorageFormat) -> dict[str, Any]:
    if fmt.name in _CODES and fmt.group_size:
        blocks = {-1: fmt.group_size, "type": "dynamic", "scale_bits": "e8m0"}
        return {"num_bits": _CODES[fmt.name], "block_sizes": blocks}
    scale = {"block_sizes": {-1: fmt.group_size}} if fmt.group_size else {"axis": 0}
    return {"num_bits": _CODES.get(fmt.name, fmt.bits), **scale}


def _parse(files: Mapping[str, str]) -> Rules:
    if any(name.endswith(".json") for name in files):
        return read_checkpoint(files)
    document, name = read_yaml(files)
    recipe = table(table(document, name).get("quantize", document), name, "quantize")
    rules = [
        rule
        for at, entry in _entries(recipe.get("quant_cfg"), name, "quantize", "quant_cfg")
        if (rule := _rule(entry, *at)) is not None
    ]
    # Later entries win there, the first rule wins here; "all off" before anything else says nothing of a single layer.
    while rules and rules[0].text == "*" and rules[0].format is None:
        del rules[0]
    return Rules(tuple(reversed(rules)))


def _entries(given: object, *where: str | int) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    # Before 0.40 a table of patterns and settings, where a class of modules has a table of its own.
    if isinstance(given, dict):
        # `default` was applied before everything else, wherever it stood.
        ordered = sorted(given.items(), key=lambda item: item[0] != "default")
        given = [{pattern: settings} for pattern, settings in ordered]
    for index, item in enumerate(entries(given, *where)):
        at = (*where, index)
        entry = table(item, *at)
        if _IMPORT in entry:
            raise InvalidInputError(Fault(pointer((*at, _IMPORT)), _imported(entry[_IMPORT])))
        if "quantizer_name" in entry:
            yield at, entry
            continue
        for pattern, settings in entry.items():
            inner = (
                {pattern: settings} if not str(pattern).startswith("nn.") else table(settings, *at, pattern)
            )
            scope = {"parent_class": pattern} if str(pattern).startswith("nn.") else {}
            for name, value in inner.items():
                yield at, _as_entry(str(name), value, *at) | scope


def _as_entry(pattern: str, value: object, *where: str | int) -> dict[str, Any]:
    settings = dict(table(value, *where, pattern))
    enable = settings.pop("enable", None)
    return {
        "quantizer_name": "*" if pattern == "default" else pattern,
        **({} if enable is None else {"enable": enable}),
        **({"cfg": settings} if settings else {}),
    }


def _imported(what: object) -> str:
    return (
        f"it takes {str(what)[:60]!r} from another file; write the recipe out first: "
        "yaml.safe_dump(modelopt.recipe.load_recipe(path).model_dump(mode='json'))"
    )


def _rule(entry: Mapping[str, Any], *where: str | int) -> Rule | None:
    text = str(entry.get("quantizer_name"))
    parent = entry.get("parent_class")
    if text.endswith(_OTHERS) or (parent is not None and str(parent) not in _KINDS):
        return None
    within = f"(?={_KINDS[str(parent)]})" if parent is not None else ""
    shown = f"{parent}: {text}" if parent is not None else text
    only = glob_literal(text) if parent is None else None
    return Rule(
        shown,
        re.compile(within + fnmatch.translate(text)),
        _format(entry, *where),
        only.removesuffix(_QUANTIZER) if only else None,
        suffix=_QUANTIZER,
    )


def _format(entry: Mapping[str, Any], *where: str | int) -> StorageFormat | None:
    if entry.get("enable") is False:
        return None
    settings = table(entry.get("cfg"), *where, "cfg")
    if _IMPORT in settings:
        raise InvalidInputError(Fault(pointer((*where, "cfg", _IMPORT)), _imported(settings[_IMPORT])))
    bits = settings.get("num_bits", 8)
    blocks: dict[Any, Any] = table(settings.get("block_sizes") or {}, *where, "block_sizes")
    group = whole({"-1": blocks.get(-1, blocks.get("-1"))}, "-1", *where, "block_sizes", default=-1)
    if isinstance(bits, int):
        return integer(width(settings, "num_bits", *where, "cfg", default=8), group, symmetric=True)
    for name, code in _CODES.items():
        made = table(_settings(parse_format(name)))
        if _FLOATS.get(str(bits)) == _FLOATS[code] and _scaling(settings) == _scaling(made):
            return parse_format(name)
    name = _FLOATS.get(str(bits), str(bits))
    if name == "fp4_e2m1" and group == 16 and str(blocks.get("scale_bits")) in {"e4m3", "[4, 3]", "(4, 3)"}:
        name = "nvfp4"
    # Blocks over rows as well are padded, and no groups of a row.
    group = -1 if -2 in blocks or "-2" in blocks else group
    return StorageFormat(
        name, 8 if name == "fp8_e4m3" else 4, floating=True, group_size=group if group > 0 else None
    )


def _scaling(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    # [8, 0] is another way to write e8m0.
    blocks: dict[Any, Any] = table(settings.get("block_sizes") or {})
    power_of_two = str(blocks.get("scale_bits")) in {"e8m0", "[8, 0]", "(8, 0)"}
    return blocks.get(-1, blocks.get("-1")), power_of_two, None if blocks else settings.get("axis")


TARGET = ExportTarget(
    mask=Mask(symmetric=any_size(*range(2, 9)), named=frozenset(_CODES)),
    render=_render,
    parse=_parse,
    files=("recipe.yaml",),
    whole_blocks=whole_groups,
    advice="mtq.quantize(model, load_recipe('recipe.yaml').quantize.model_dump(), forward_loop)",
)
