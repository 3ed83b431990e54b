"""Schemes that llm-compressor and compressed-tensors know by name, as the groups of settings that they stand for.

Source: compressed-tensors 0.20, ``quantization/quant_scheme.py:PRESET_SCHEMES``.
"""

from __future__ import annotations

import re
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer

_INTEGERS = re.compile(r"W([2-8])A(4|8|16)")
_GROUPED = {"type": "int", "symmetric": True, "strategy": "group", "group_size": 128, "dynamic": False}
_TOKENS = {"type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
_FP8 = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}
_FP8_TOKENS = {**_FP8, "strategy": "token", "dynamic": True}
_NV = {
    "num_bits": 4, "type": "float", "symmetric": True, "strategy": "tensor_group", "group_size": 16, "dynamic": False,
    "scale_dtype": "torch.float8_e4m3fn",
}  # fmt: skip
_MX = {
    "type": "float", "symmetric": True, "strategy": "group", "group_size": 32, "dynamic": False,
    "scale_dtype": "torch.uint8",
}  # fmt: skip
_INT8 = {
    "weights": {"num_bits": 8, **_GROUPED, "strategy": "channel", "group_size": None},
    "input_activations": {"num_bits": 8, **_TOKENS},
}
_NAMED: dict[str, dict[str, Any]] = {
    "UNQUANTIZED": {},
    "W8A8": _INT8,
    "INT8": _INT8,
    "W4A16_ASYM": {"weights": {"num_bits": 4, **_GROUPED, "symmetric": False}},
    "W4AFP8": {"weights": {"num_bits": 4, **_GROUPED}, "input_activations": _FP8_TOKENS},
    "FP8": {"weights": _FP8, "input_activations": _FP8},
    "FP8_DYNAMIC": {"weights": {**_FP8, "strategy": "channel"}, "input_activations": _FP8_TOKENS},
    "FP8_BLOCK": {
        "weights": {**_FP8, "strategy": "block", "block_structure": [128, 128]},
        "input_activations": {**_FP8, "strategy": "group", "group_size": 128, "dynamic": True},
    },
    "NVFP4A16": {"weights": _NV},
    "NVFP4": {"weights": _NV, "input_activations": {**_NV, "dynamic": "local"}},
    "MXFP4A16": {"weights": {"num_bits": 4, **_MX}},
    "MXFP4": {"weights": {"num_bits": 4, **_MX}, "input_activations": {"num_bits": 4, **_MX, "dynamic": True}},
    "MXFP8A16": {"weights": {"num_bits": 8, **_MX}},
    "MXFP8": {"weights": {"num_bits": 8, **_MX}, "input_activations": {"num_bits": 8, **_MX, "dynamic": True}},
}  # fmt: skip


def preset(name: str, *where: str | int) -> dict[str, Any]:
    """Look a scheme up.

    Args:
        name: Its name, in any case.
        *where: Path to it, for the message.

    Returns:
        Settings of weights and inputs, without layers.

    Raises:
        InvalidInputError: There is no such scheme.

    Example:
        >>> preset("w4a16")["weights"]["num_bits"], preset("UNQUANTIZED")
        (4, {})
    """
    known = name.upper()
    if known in _NAMED:
        return _NAMED[known]
    found = _INTEGERS.fullmatch(known)
    if found is None or int(found[1]) > int(found[2]):
        detail = f"unknown scheme {name[:60]!r}; known: {', '.join(_NAMED)}, and W2A16 to W8A16 (A8, A4 too)"
        raise InvalidInputError(Fault(pointer(where), detail))
    inputs = {} if found[2] == "16" else {"input_activations": {"num_bits": int(found[2]), **_TOKENS}}
    return {"weights": {"num_bits": int(found[1]), **_GROUPED}, **inputs}
