"""auto-round's schemes by name, and its names for types of numbers.

Source: auto-round 0.16, ``schemes.py:PRESET_SCHEMES``, ``utils/common.py:infer_bits_by_data_type``.
"""

from __future__ import annotations

import re
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.llama_types import type_named

_INTEGERS = re.compile(r"W([2-8])A16(?:G([1-9]\d*))?")
_GGUF = re.compile(r"GGUF:(\w+?)(?:_(?:S|M|L|MIXED))?")
_MX = {"group_size": 32, "act_group_size": 32}
_NAMED: dict[str, dict[str, Any]] = {
    "MXFP4": {"bits": 4, **_MX, "data_type": "mx_fp", "act_bits": 4},
    "MXFP4_RCEIL": {"bits": 4, **_MX, "data_type": "mx_fp", "act_bits": 4},
    "MXFP6": {"bits": 6, **_MX, "data_type": "mx_fp", "act_bits": 6},
    "MXFP8": {"bits": 8, **_MX, "data_type": "mx_fp", "act_bits": 8},
    "MXFP8_RCEIL": {"bits": 8, **_MX, "data_type": "mx_fp", "act_bits": 8},
    "MXINT4": {"bits": 4, **_MX, "data_type": "mx_int", "act_bits": 4},
    "NVFP4": {"bits": 4, "group_size": 16, "data_type": "nv_fp", "act_bits": 4},
    "FPW8A16": {"bits": 8, "group_size": 0, "data_type": "fp"},
    "FP8_STATIC": {"bits": 8, "group_size": -1, "data_type": "fp", "act_bits": 8},
    "FP8_BLOCK": {"bits": 8, "group_size": [128, 128], "data_type": "fp", "act_bits": 8},
    "INT8": {"bits": 8, "group_size": -1, "data_type": "int", "sym": True, "act_bits": 8},
    "INT8_W8A8": {"bits": 8, "group_size": -1, "data_type": "int", "sym": True, "act_bits": 8},
    "INT4": {"bits": 4, "group_size": -1, "data_type": "int", "sym": True, "act_bits": 4},
    "BF16": {"bits": 16, "data_type": "fp"},
}
#: Spellings with bits or ways of scaling in them → the plain name.
_TYPES = (("mx_fp", "mx_fp"), ("mx_int", "mx_int"), ("nv_fp", "nv_fp"), ("nvfp4", "nv_fp"), ("fp8", "fp8"))
_DIGITS = re.compile(r"(?:fp|int)(\d+)")


def scheme(name: str, *where: str) -> dict[str, Any]:
    """Look a scheme up.

    Args:
        name: Its name, in any case.
        *where: Path to it, for the message.

    Returns:
        Its settings, as a layer may have them.

    Raises:
        InvalidInputError: There is no such scheme.

    Example:
        >>> scheme("w2a16g32")["group_size"], scheme("gguf:q6_k")["type"]
        (32, 'q6_k')
    """
    known = name.upper()
    if known in _NAMED:
        return _NAMED[known]
    if found := _INTEGERS.fullmatch(known):
        return {"bits": int(found[1]), "group_size": int(found[2] or 128), "sym": True, "data_type": "int"}
    stored = _GGUF.fullmatch(known)
    if stored and type_named(stored[1]):
        return {"type": stored[1].lower()}
    detail = f"unknown scheme {name[:60]!r}; known: W2A16 to W8A16 (with G32, G64), {', '.join(_NAMED)}, GGUF:Q4_K_S"
    raise InvalidInputError(Fault(pointer(where), detail))


def data_type(name: str) -> tuple[str, int | None]:
    """Tell a type from its spelling.

    Args:
        name: As a file has it.

    Returns:
        The plain name, and the bits that the spelling states.

    Example:
        >>> data_type("mx_fp4_rceil"), data_type("nv_fp4_with_static_gs"), data_type("int_asym_dq")
        (('mx_fp', 4), ('nv_fp', 4), ('int', None))
    """
    digits = _DIGITS.search(name)
    bits = int(digits[1]) if digits else None
    plain = next((known for start, known in _TYPES if name.startswith(start)), None)
    if plain is not None:
        return plain, bits
    return ("int" if name.startswith("int") else name), bits
