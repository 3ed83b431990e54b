r"""compressed-tensors: the ``quantization_config`` that vLLM, SGLang and transformers read from ``config.json``.

One group of settings per format, with the layers it is for. Names are written as anchored ``re:`` patterns: a bare name
is also compared with class names, where vLLM accepts a part of one, so that a layer called ``linear`` would match all.

Whatever the order of groups, an exact name goes before expressions, and those before class names; of several
expressions the package takes the first in alphabetical order, vLLM and SGLang the first in the file. Where two groups
have one target, the later group has it.

Source: compressed-tensors 0.20, ``quantization/quant_config.py`` and ``utils/match.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.exports.documents import integer, read_json, table, texts, whole, width, written
from quantize.exports.names import anchored
from quantize.exports.presets import preset
from quantize.exports.rules import EMBEDDINGS, Rule, Rules, exact, expression
from quantize.exports.section import section_of
from quantize.exports.target import ExportTarget, Mask, Sheet, any_size, whole_groups
from quantize.formats import DYNAMIC, StorageFormat, parse_format

#: How a checkpoint stores codes.
_PACKED = "pack-quantized"
_STORED = {
    "fp8-e4m3": "float-quantized",
    "mxfp8": "mxfp8-quantized",
    "mxfp4": "mxfp4-pack-quantized",
    "int8-dynamic": "int-quantized",
}
#: Inputs rounded to 8 bits as they come.
_DYNAMIC = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
#: What else a file may say of weights.
_BESIDE = {
    "transform_config": "weights are rotated first, which a plan does not hold",
    "sparsity_config": "weights are sparse as well, which a plan does not hold",
}
#: Class names as targets: the file does not say which layers are of a class, so names have to.
_CLASSES = {"Linear": rf"^(?!.*{EMBEDDINGS.pattern})", "Embedding": EMBEDDINGS.pattern}


def _render(sheet: Sheet) -> dict[str, str]:
    kinds = {fmt: _STORED.get(fmt.name, _PACKED) for fmt in sheet.formats.values()}
    groups = {
        name: {"format": kind, "output_activations": None} | group
        for (name, group), kind in zip(config_groups(sheet).items(), kinds.values(), strict=True)
    }
    only = set(kinds.values())
    config = {
        "quant_method": "compressed-tensors",
        "format": only.pop() if len(only) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ignored(sheet),
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }
    return {"quantization_config.json": written({"quantization_config": config})}


def config_groups(sheet: Sheet) -> dict[str, dict[str, Any]]:
    """One group of settings per format.

    Returns:
        Groups with their layers, in the order in which formats appear in the plan.
    """
    targets: dict[StorageFormat, list[str]] = {}
    for name, fmt in sheet.formats.items():
        targets.setdefault(fmt, []).append(f"re:{anchored(name)}")
    return {
        f"group_{index}": {
            "targets": names,
            "weights": _weights(fmt),
            "input_activations": _DYNAMIC if fmt.activation_bits < 16 else None,
        }
        for index, (fmt, names) in enumerate(targets.items())
    }


def ignored(sheet: Sheet) -> list[str]:
    """Return patterns for the layers that stay as they are, one per layer."""
    return [f"re:{anchored(name)}" for name in sheet.alone]


def read_groups(document: Mapping[str, Any], *where: str) -> Rules:
    """Read ``config_groups`` and ``ignore``.

    Args:
        document: What holds them.
        *where: Path to it.

    Returns:
        The rules; what is ignored comes first.
    """
    notes: list[str] = []
    ignore = [_rule(text, None, *where) for text in texts(document.get("ignore"), *where, "ignore")]
    targets: dict[str, StorageFormat | None] = {}
    groups = table(document.get("config_groups"), *where, "config_groups")
    for name, content in groups.items():
        group = _group(name, content, *where, "config_groups", name)
        fmt, note = _format(group.get("weights"), *where, "config_groups", name, "weights")
        inputs = table(group.get("input_activations") or {}, *where, name, "input_activations")
        if fmt == integer(8, None, symmetric=True) and inputs | _DYNAMIC == inputs:
            fmt = parse_format(DYNAMIC)
        elif inputs:
            notes.append(f"{name} quantizes activations as well, which a plan of weights does not hold")
        notes += [f"{name} {note}"] if note else []
        targets |= dict.fromkeys(texts(group.get("targets"), *where, name, "targets"), fmt)
    if document.get("kv_cache_scheme"):
        notes.append("the KV cache is quantized as well, which a plan of weights does not hold")
    notes += [text for key, text in _BESIDE.items() if document.get(key)]
    return Rules((*ignore, *_by_precedence(targets, *where)), notes=tuple(notes))


def _by_precedence(targets: Mapping[str, StorageFormat | None], *where: str) -> list[Rule]:
    made = {
        text: replace(_rule(text, fmt, *where), place=place)
        for place, (text, fmt) in enumerate(targets.items())
    }
    return [made[text] for text in sorted(made, key=lambda text: (text in _CLASSES, "re:" in text, text))]


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    config, _ = section_of(document, name, "compressed-tensors")
    return read_groups(config, name)


def _group(name: str, content: object, *where: str) -> dict[str, Any]:
    # A scheme by name has a list of layers instead of settings: {"W4A16": ["Linear"]}.
    if isinstance(content, list):
        return {**preset(name, *where), "targets": content}
    return table(content, *where)


def _rule(text: str, fmt: StorageFormat | None, *where: str) -> Rule:
    if text.startswith("re:"):
        return expression(text[3:], fmt, "match", pointer(where), text)
    if text in _CLASSES:
        return expression(_CLASSES[text], fmt, "search", pointer(where), text)
    return exact(text, fmt)


def _weights(fmt: StorageFormat) -> dict[str, Any]:
    power_of_two = {"scale_dtype": "torch.uint8"} if fmt.scale_bits == 8 else {}
    return {
        "num_bits": fmt.bits,
        "type": "float" if fmt.floating else "int",
        "symmetric": fmt.symmetric,
        "strategy": "group" if fmt.group_size else "channel",
        "group_size": fmt.group_size,
        "dynamic": False,
    } | power_of_two


def _format(weights: object, *where: str) -> tuple[StorageFormat | None, str]:
    if weights is None:
        return None, ""
    settings = table(weights, *where)
    bits = width(settings, "num_bits", *where, default=8)
    group = whole(settings, "group_size", *where, default=-1)
    strategy = str(settings.get("strategy"))
    if strategy in {"group", "tensor_group"} and group <= 0:
        detail = f"expected a group_size above 0 with the strategy {strategy!r}, got {group}"
        raise InvalidInputError(Fault(pointer((*where, "group_size")), detail))
    coarse = {"tensor": "has one scale per tensor", "block": "has one scale per block of rows and columns"}
    note = coarse.get(strategy, "")
    if settings.get("type", "int") == "float":
        return _floating(settings, bits, group if group > 0 else None), note
    fmt = integer(bits, group, symmetric=settings.get("symmetric", True) is not False)
    return fmt, f"{note}, read as one per row" if note else ""


def _floating(settings: Mapping[str, Any], bits: int, group: int | None) -> StorageFormat:
    usual = {"symmetric": True, "dynamic": False, "scale_dtype": None}
    given = {**usual, **settings, "group_size": group}
    for name in ("fp8-e4m3", "mxfp8", "mxfp4"):
        if given | _weights(parse_format(name)) == given:
            return parse_format(name)
    name = "nvfp4" if settings.get("strategy") == "tensor_group" and (bits, group) == (4, 16) else f"fp{bits}"
    return StorageFormat(name, bits, floating=True, group_size=group)


# One symmetric bit is −s or +s: the package has no zero point of a half, and rounds every weight to zero.
MASK = Mask(any_size(*range(2, 9)), any_size(*range(1, 9)), named=frozenset(_STORED))
TARGET = ExportTarget(
    mask=MASK,
    render=_render,
    parse=_parse,
    files=("quantization_config.json",),
    whole_blocks=whole_groups,
    advice="goes into config.json beside weights packed by compressed-tensors",
)
