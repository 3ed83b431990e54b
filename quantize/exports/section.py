"""The section of ``config.json`` in which a checkpoint says how it is quantized, and by what.

Models with a tower beside the language model may have it in the configuration of the latter; older releases of
compressed-tensors called it ``compression_config``. A section of another tool has settings of the same names and
another meaning (AWQ's ``bits`` beside its ``zero_point``), so its ``quant_method`` decides who may read it.

Source: vLLM, ``model_executor/model_loader/weight_utils.py:get_quant_config``; transformers 5,
``quantizers/auto.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.exports.documents import table

#: Export target → what ``quant_method`` may say, beside nothing.
METHODS: Mapping[str, tuple[str, ...]] = {
    "compressed-tensors": ("compressed-tensors", "compressed_tensors"),
    "gptqmodel": ("gptq", "awq", "gptq_marlin", "awq_marlin", "marlin", "gptqmodel"),
    "auto-round": ("auto-round", "auto_round", "intel/auto-round"),
    "modelopt": ("modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed"),
    "quark": ("quark",),
    "olive": ("olive",),
    "torchao": ("torchao",),
    "mlx": (),
}
_KEYS = ("quantization_config", "compression_config")
_INNER = ("text_config", "llm_config", "language_config", "thinker_config")


def section_of(document: object, name: str, target: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Find how a checkpoint is quantized.

    Args:
        document: Content of ``config.json``, or of a file that holds the section alone.
        name: Name of the file.
        target: Whose section it has to be.

    Returns:
        The section and where it stands.

    Raises:
        InvalidInputError: It is the configuration of a model that is not quantized, or is quantized by another tool.

    Example:
        >>> section_of({"text_config": {"quantization_config": {"bits": 4}}}, "config.json", "gptqmodel")
        ({'bits': 4}, ('config.json', 'text_config', 'quantization_config'))
    """
    config = table(document, name)
    where = next(_places(config, name), None)
    if where is None:
        if "model_type" in config or "architectures" in config:
            detail = "expected quantization_config, got the configuration of a model that is not quantized"
            raise InvalidInputError(Fault(pointer((name,)), detail))
        where = (name,)
    found = config
    for depth, key in enumerate(where[1:], start=2):
        found = table(found[key], *where[:depth])
    require_method(found, target, *where)
    return found, where


def require_method(section: Mapping[str, Any], target: str, *where: str) -> None:
    """Refuse a section that another tool wrote.

    Args:
        target: Whose it has to be.
        *where: Path to it.

    Raises:
        InvalidInputError: Its ``quant_method`` is not the target's; says whose it is, where that can be read here.
    """
    method = section.get("quant_method")
    if method is None or str(method).lower() in METHODS[target]:
        return
    others = [other for other, methods in METHODS.items() if str(method).lower() in methods]
    advice = f"read it as {others[0]}" if others else "that cannot be read here"
    known = METHODS[target]
    expected = f"quant_method {' or '.join(known)}" if known else "no quant_method, as MLX writes it"
    detail = f"expected {expected}, got {str(method)[:60]!r}; {advice}"
    raise InvalidInputError(Fault(pointer((*where, "quant_method")), detail))


def _places(config: Mapping[str, Any], name: str) -> Iterator[tuple[str, ...]]:
    for key in _KEYS:
        if config.get(key) is not None:
            yield (name, key)
    for outer in _INNER:
        inner = config.get(outer)
        for key in _KEYS:
            if isinstance(inner, dict) and inner.get(key) is not None:
                yield (name, outer, key)
