r"""LiteRT: a recipe for ai-edge-quantizer, one entry per layer.

8 and 4 bits with one scale per row leave activations in floats. The runtime has groups and 2 bits only with integer
arithmetic, for which it rounds activations to 8 bits as it goes; entries that it does not have are passed over.
``int8-dynamic`` is 8 bits with that arithmetic.

An expression is searched for in the names of an operation's outputs (``layers_0/mlp/down/dot;``); the last entry that
matches wins. The name of a layer has to stand alone there, between separators.

Source: ai-edge-quantizer 0.10, ``recipe_manager.py``, ``default_policy.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.exports.documents import entries, integer, read_json, table, width, written
from quantize.exports.names import escaped, literal
from quantize.exports.rules import Rule, Rules, expression
from quantize.exports.target import ROW, ExportTarget, Mask, Sheet, sized, whole_groups
from quantize.formats import DYNAMIC, StorageFormat, parse_format

_BEFORE, _AFTER = r"(?:^|[/;])", r"(?:$|[/;])"
_ALONE = "no_quantize"


def _render(sheet: Sheet) -> dict[str, str]:
    recipe = [_entry(name, fmt) for name, fmt in sheet.formats.items()]
    recipe += [_entry(name, None) for name in sheet.alone]
    return {"recipe.json": written(recipe)}


def _entry(name: str, fmt: StorageFormat | None) -> dict[str, Any]:
    entry = {"regex": f"{_BEFORE}{escaped(name)}{_AFTER}", "operation": "*"}
    if fmt is None:
        return {**entry, "algorithm_key": _ALONE, "op_config": {}}
    granularity = f"BLOCKWISE_{fmt.group_size}" if fmt.group_size else "CHANNELWISE"
    weight = {
        "num_bits": fmt.bits,
        "symmetric": fmt.symmetric,
        "granularity": granularity,
        "dtype": "INT",
    }
    weight_only = fmt.bits != 2 and fmt.group_size is None and fmt.name != DYNAMIC
    config = {
        "weight_tensor_config": weight,
        "compute_precision": "FLOAT" if weight_only else "INTEGER",
        "explicit_dequantize": weight_only,
        "skip_checks": False,
        "min_weight_elements": 0,
    }
    return {**entry, "algorithm_key": "min_max_uniform_quantize", "op_config": config}


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    items = [table(item, name, index) for index, item in enumerate(entries(document, name))]
    rules = [_rule(item, name, index) for index, item in enumerate(items)]
    notes = {
        f"{item.get('regex')} quantizes activations as well, which a plan of weights does not hold"
        for item in items
        if table(item.get("op_config") or {}, name).get("activation_tensor_config")
    }
    return Rules(tuple(reversed(rules)), notes=tuple(sorted(notes)))


def _rule(item: Mapping[str, Any], name: str, index: int) -> Rule:
    text = str(item.get("regex"))
    fmt = None if item.get("algorithm_key") == _ALONE else _format(item, name, index)
    if text.startswith(_BEFORE) and text.endswith(_AFTER):
        only = literal(text.removeprefix(_BEFORE).removesuffix(_AFTER))
        if only is not None:
            return Rule(text, re.compile(re.escape(only)), fmt, only)
    return expression(text, fmt, "search", pointer((name, index, "regex")))


def _format(item: Mapping[str, Any], *where: str | int) -> StorageFormat | None:
    config = table(item.get("op_config") or {}, *where, "op_config")
    if not config.get("weight_tensor_config"):
        return None
    at = (*where, "op_config", "weight_tensor_config")
    weight = table(config["weight_tensor_config"], *at)
    bits = width(weight, "num_bits", *at)
    granularity = str(weight.get("granularity", "TENSORWISE")).upper()
    if weight.get("dtype", "INT") != "INT":
        return StorageFormat(f"fp{bits}", bits, floating=True)
    size = granularity.removeprefix("BLOCKWISE_")
    if granularity == "CHANNELWISE" and bits == 8 and config.get("compute_precision") == "INTEGER":
        return parse_format(DYNAMIC)
    if granularity in {"CHANNELWISE", "TENSORWISE"}:
        return integer(bits, None, symmetric=weight.get("symmetric", True) is not False)
    if not size.isdigit():
        raise InvalidInputError(Fault(pointer((*at, "granularity")), f"unknown granularity {granularity!r}"))
    return integer(bits, int(size), symmetric=weight.get("symmetric", True) is not False)


TARGET = ExportTarget(
    mask=Mask(
        symmetric={8: frozenset({ROW}), **sized((4, 2), ROW, 32, 64, 128, 256)},
        asymmetric=sized((8, 4), ROW),
        named=frozenset({DYNAMIC}),
    ),
    render=_render,
    parse=_parse,
    files=("recipe.json",),
    whole_blocks=whole_groups,
    advice="Quantizer('model.tflite', json.load(file)).quantize()",
)
