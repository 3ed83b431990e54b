"""ModelOpt's checkpoints: ``hf_quant_config.json``, and the same section in ``config.json``.

The newer file is flat (``quant_algo``, ``ignore``), the older has a section ``quantization`` (``exclude_modules``).
What is stated once is for Linear layers: loaders look at no embedding. What is left out is named by shell patterns or
by a part of a path; an entry of ``quantized_layers`` also stands for what is below it, as a module of experts.

Source: nvidia-modelopt 0.47, ``torch/export/quant_utils.py:process_layer_quant_config``, ``convert_hf_config.py``;
TensorRT-LLM 1.2, ``quantization/mode.py:QuantAlgo``; SGLang 0.5.23, ``srt/layers/quantization/modelopt_quant.py``
(adapted from vLLM's ``modelopt.py``).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.exports.compressed_tensors import read_groups
from quantize.exports.documents import integer, read_json, table, texts, whole
from quantize.exports.names import escaped, glob_literal
from quantize.exports.rules import EMBEDDINGS, Rule, Rules, exact
from quantize.exports.section import require_method
from quantize.formats import StorageFormat, parse_format

#: Algorithms: bits, whether floating, group size where it is not stated. Blocks of 128 by 128 are padded, not groups.
_ALGORITHMS = {
    "FP8": (8, True, None), "FP8_PER_CHANNEL_PER_TOKEN": (8, True, None), "FP8_PB_WO": (8, True, None),
    "FP8_PB_REAL": (8, True, None), "FP8_BLOCK_SCALES": (8, True, None), "FP8_PC_PT": (8, True, None),
    "NVFP4": (4, True, 16), "NVFP4_STATIC": (4, True, 16), "NVFP4_AWQ": (4, True, 16), "NVFP4_SVD": (4, True, 16),
    "NVFP4_SVDQUANT": (4, True, 16), "W4A16_NVFP4": (4, True, 16), "W4A8_NVFP4_FP8": (4, True, 16),
    "W4A8_MXFP4_FP8": (4, True, 32), "W4A16_MXFP4": (4, True, 32), "MXFP4": (4, True, 32), "MXFP8": (8, True, 32),
    "W4A16_AWQ": (4, False, 128), "INT4_AWQ": (4, False, 128), "W4A8_AWQ": (4, False, 128), "W8A16": (8, False, None),
    "INT8_WO": (8, False, None), "W8A8_SQ_PER_CHANNEL": (8, False, None), "INT8_SQ": (8, False, None),
    "INT8": (8, False, None), "W8A16_GPTQ": (8, False, None), "W4A16": (4, False, None), "W4A16_GPTQ": (4, False, 128),
    "W8A8_SQ_PER_TENSOR_PLUGIN": (8, False, None), "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN": (8, False, None),
    "W8A8_SQ_PER_CHANNEL_PER_TENSOR_PLUGIN": (8, False, None), "W8A8_SQ_PER_TENSOR_PER_TOKEN_PLUGIN": (8, False, None),
    "W4A8_QSERVE_PER_GROUP": (4, False, 128), "W4A8_QSERVE_PER_CHANNEL": (4, False, None),
    "W4A8_MXFP4_MXFP8": (4, True, 32), "NVFP4_ARC": (4, True, 16),
}  # fmt: skip
_NOTHING = {"", "NONE", "NO_QUANT", "UNQUANTIZED"}
_MIXED = "MIXED_PRECISION"
#: Modules that hold layers rather than being one.
_MODULE = re.compile(
    r"(?:.*\.)?(?:experts|shared_experts?|mlp|moe|block_sparse_moe|feed_forward|mixer|self_attn|attention|linear_attn|\d+)"
)
#: Weights that a plan can name: nothing else than codes and scales is said of them.
_OURS = {"MXFP4": "mxfp4", "W4A16_MXFP4": "mxfp4"}


def read_checkpoint(files: Mapping[str, str]) -> Rules:
    """Read the configuration of a checkpoint.

    Args:
        files: File name → text.

    Returns:
        The rules; what is left out comes first.
    """
    document, name = read_json(files)
    config, where = _section(table(document, name), name)
    left_out = config.get("exclude_modules")
    left_out = config.get("ignore") if left_out is None else left_out
    rules = [_left_out(text) for text in texts(left_out, *where, "exclude_modules")]
    stated = str(config.get("quant_algo") or "").upper()
    if "config_groups" in config and (
        not stated or (stated == _MIXED and not config.get("quantized_layers"))
    ):
        return read_groups(config, *where)
    layers = table(config.get("quantized_layers") or {}, *where, "quantized_layers")
    at = {layer: (*where, "quantized_layers", layer) for layer in layers}
    named = [_entry(layer, _algorithm(table(layers[layer], *at[layer]), *at[layer])) for layer in layers]
    # A layer's own name goes before what it lies in, and of that the nearest.
    named.sort(key=lambda rule: (rule.name is None, -len(rule.text)))
    default = None if stated == _MIXED else _algorithm(config, *where)
    return Rules((*rules, *named), default, _notes(config), EMBEDDINGS)


def _section(document: Mapping[str, Any], name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    for key in ("quantization_config", "quantization"):
        if key in document:
            inner = table(document[key], name, key)
            require_method(inner, "modelopt", name, key)
            # A whole hf_quant_config may stand in config.json as it is.
            if "quant_algo" not in inner and isinstance(inner.get("quantization"), dict):
                return inner["quantization"], (name, key, "quantization")
            return inner, (name, key)
    if "quant_algo" in document or "config_groups" in document:
        return dict(document), (name,)
    detail = (
        "expected `quantization` (hf_quant_config.json) or `quantization_config` (config.json), got neither"
    )
    raise InvalidInputError(Fault(pointer((name,)), detail))


def _left_out(text: str) -> Rule:
    # A name, a shell pattern, or a part of a path (lm_head, mlp.gate).
    if text.startswith("re:"):
        return Rule(text, re.compile(text[3:]), None, mode="match")
    parts = re.sub(r"\*+$", "", text)
    within = (
        rf"(?:.*\.)?{re.escape(parts)}(?:\..*)?" if parts and not re.search(r"[*?\[]", parts) else r"(?!)"
    )
    return Rule(text, re.compile(f"{fnmatch.translate(text)}|{within}"), None)


def _entry(text: str, fmt: StorageFormat | None) -> Rule:
    if glob_literal(text) is None:
        return Rule(text, re.compile(fnmatch.translate(text)), fmt)
    if _MODULE.fullmatch(text):
        return Rule(text, re.compile(rf"{escaped(text)}(?:\..+)?"), fmt)
    return exact(text, fmt)


def _algorithm(settings: Mapping[str, Any], *where: str) -> StorageFormat | None:
    stated = settings.get("quant_algo")
    algorithm = str(stated or "").upper()
    if algorithm in _NOTHING:
        return None
    if algorithm not in _ALGORITHMS:
        detail = f"unknown algorithm {stated!r}; known: {', '.join([*_ALGORITHMS, _MIXED, 'UNQUANTIZED'])}"
        raise InvalidInputError(Fault(pointer((*where, "quant_algo")), detail))
    bits, floating, size = _ALGORITHMS[algorithm]
    group = whole(settings, "group_size", *where, default=size or -1) or size or -1
    if algorithm in _OURS and group == parse_format(_OURS[algorithm]).group_size:
        return parse_format(_OURS[algorithm])
    if floating:
        return StorageFormat(algorithm.lower(), bits, floating=True, group_size=group if group > 0 else None)
    return integer(bits, group, symmetric=settings.get("has_zero_point") is not True)


def _notes(config: Mapping[str, Any]) -> tuple[str, ...]:
    cached = config.get("kv_cache_quant_algo") or config.get("kv_cache_scheme")
    return ("the KV cache is quantized as well",) if cached else ()
