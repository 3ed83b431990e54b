"""ModelOpt: a PTQ recipe (YAML) with one weight quantizer per layer; reads its checkpoints as well.

Everything is switched off first; later entries win. Names are shell patterns, so brackets in names are escaped.

Source: nvidia-modelopt 0.47, ``modelopt/torch/quantization/config.py``, ``modelopt/recipe/loader.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allocator.contract.errors import require
from quantize.exports.documents import entries, integer, read_yaml, table, whole, width
from quantize.exports.modelopt_checkpoint import read_checkpoint
from quantize.exports.names import globbed
from quantize.exports.rules import Rules, shell
from quantize.exports.target import ExportTarget, Mask, Sheet, any_size, whole_groups
from quantize.formats import StorageFormat, parse_format

_QUANTIZER = ".weight_quantizer"
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
    recipe = table(table(document, name).get("quantize"), name, "quantize")
    rules = []
    for index, item in enumerate(entries(recipe.get("quant_cfg"), name, "quantize", "quant_cfg")):
        where = (name, "quantize", "quant_cfg", index)
        entry = table(item, *where)
        pattern = str(entry.get("quantizer_name"))
        if pattern == "*" or pattern.endswith("weight_quantizer"):
            rules.append(
                shell(pattern.removesuffix("weight_quantizer").removesuffix("."), _format(entry, *where))
            )
    # Later entries win there, the first rule wins here; a leading "all off" says nothing about a single layer.
    last_first = [rule for rule in reversed(rules) if rule.text != "*" or rule.format is not None]
    return Rules(tuple(last_first))


def _format(entry: Mapping[str, Any], *where: str | int) -> StorageFormat | None:
    if entry.get("enable") is False:
        return None
    settings = table(entry.get("cfg"), *where, "cfg")
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
