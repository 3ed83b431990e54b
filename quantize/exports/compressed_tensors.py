r"""compressed-tensors: the ``quantization_config`` that vLLM, SGLang and transformers read from ``config.json``.

One group of settings per format, with the layers it is for. Names are written as anchored ``re:`` patterns: a bare name
is also compared with class names, where vLLM accepts a part of one, so that a layer called ``linear`` would match all.

Source: compressed-tensors 0.20, ``quantization/quant_config.py`` and ``utils/match.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allocator.errors import pointer
from quantize.exports.documents import integer, read_json, table, texts, whole, width, written
from quantize.exports.names import anchored
from quantize.exports.rules import EMBEDDINGS, Rule, Rules, exact, expression
from quantize.exports.target import Mask, Sheet, Target, any_size
from quantize.formats import Format

_PACKED = "pack-quantized"
#: Class names as targets: the file does not say which layers are of a class, so names have to.
_CLASSES = {"Linear": rf"^(?!.*{EMBEDDINGS.pattern})", "Embedding": EMBEDDINGS.pattern}


def _render(sheet: Sheet) -> dict[str, str]:
    groups = {
        name: {"format": _PACKED, "input_activations": None, "output_activations": None} | group
        for name, group in config_groups(sheet).items()
    }
    config = {
        "quant_method": "compressed-tensors",
        "format": _PACKED,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ignored(sheet),
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }
    return {"quantization_config.json": written({"quantization_config": config})}


def config_groups(sheet: Sheet) -> dict[str, dict[str, Any]]:
    """One group of settings per format.

    Args:
        sheet: The plan.

    Returns:
        Groups with their layers, in the order in which formats appear in the plan.
    """
    targets: dict[Format, list[str]] = {}
    for name, target in sheet.formats.items():
        targets.setdefault(target, []).append(f"re:{anchored(name)}")
    return {
        f"group_{index}": {"targets": names, "weights": _weights(target)}
        for index, (target, names) in enumerate(targets.items())
    }


def ignored(sheet: Sheet) -> list[str]:
    """Layers that stay as they are.

    Args:
        sheet: The plan.

    Returns:
        Patterns, one per layer.
    """
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
    rules = [_rule(text, None, *where) for text in texts(document.get("ignore"), *where, "ignore")]
    groups = table(document.get("config_groups"), *where, "config_groups")
    for name, content in groups.items():
        group = table(content, *where, "config_groups", name)
        if group.get("input_activations"):
            notes.append(f"{name} quantizes activations as well, which a plan of weights does not hold")
        target = _format(group.get("weights"), *where, "config_groups", name, "weights")
        rules += [
            _rule(text, target, *where) for text in texts(group.get("targets"), *where, name, "targets")
        ]
    if document.get("kv_cache_scheme"):
        notes.append("the KV cache is quantized as well, which a plan of weights does not hold")
    return Rules(tuple(rules), notes=tuple(notes))


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    config = table(document, name)
    return read_groups(table(config.get("quantization_config", config), name, "quantization_config"), name)


def _rule(text: str, target: Format | None, *where: str) -> Rule:
    if text.startswith("re:"):
        return expression(text[3:], target, "match", pointer(where), text)
    if text in _CLASSES:
        return expression(_CLASSES[text], target, "search", pointer(where), text)
    return exact(text, target)


def _weights(target: Format) -> dict[str, Any]:
    return {
        "num_bits": target.bits,
        "type": "int",
        "symmetric": target.symmetric,
        "strategy": "group" if target.group_size else "channel",
        "group_size": target.group_size,
        "dynamic": False,
    }


def _format(weights: object, *where: str) -> Format | None:
    if weights is None:
        return None
    settings = table(weights, *where)
    bits = width(settings, "num_bits", *where, default=8)
    group = whole(settings, "group_size", *where, default=-1)
    if settings.get("type", "int") == "float":
        return Format(f"fp{bits}", bits, floating=True, group_size=group if group > 0 else None)
    return integer(bits, group, symmetric=settings.get("symmetric", True) is not False)


TARGET = Target(
    mask=Mask(symmetric=any_size(*range(1, 9)), asymmetric=any_size(*range(1, 9))),
    render=_render,
    parse=_parse,
    advice="goes into config.json beside weights packed by compressed-tensors",
)
