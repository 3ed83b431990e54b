"""llama.cpp: types of its own, in blocks of 32 or 256 along a row; what does not fit falls back to another type.

Source: llama.cpp, ``src/llama-quant.cpp:tensor_type_fallback``; block sizes from gguf 0.19.
"""

from __future__ import annotations

from quantize.exports.llama_cpp import OWN, TYPES, own_name
from quantize.formats import StorageFormat
from quantize.runtimes.capabilities import Capabilities, Complaint, Objection

_TWINS = frozenset(TYPES.values())
_FALLBACK = {
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
    "q2_k": "q4_0",
    "q3_k": "q4_0",
    "tq1_0": "q4_0",
    "tq2_0": "q4_0",
}
_SHORT = {"iq4_nl": 32, "mxfp4": 32, "nvfp4": 64}


def supported(fmt: StorageFormat) -> Complaint | None:
    """Whether a format has a type.

    Args:
        fmt: A format that is not plain floating point.

    Returns:
        None where it has; else how bad it is and why.
    """
    if fmt.name in _TWINS or fmt.name in OWN:
        return None
    return (
        "error",
        f"{fmt.name} has no type; there are {', '.join([*sorted(_TWINS), 'and the types of gguf'])}",
    )


def _blocks(rows: int, row: int, fmt: StorageFormat) -> Objection | None:
    del rows
    block = 32 if fmt.name in _TWINS else _SHORT.get(fmt.name, 256)
    if row % block == 0:
        return None
    instead = _FALLBACK.get(fmt.name, "iq4_nl" if fmt.name.startswith("iq") else "no other type")
    detail = f"rows of {row} are not whole blocks of {block}: the layer becomes {instead}, or f16"
    return Objection("warning", "group-sizes", detail, "choose a type with blocks of 32, or f16")


TABLE = Capabilities(
    name="llama.cpp",
    tested="llama.cpp main, 2026",
    reads=frozenset({"llama.cpp"}),
    formats=dict.fromkeys(("matrix", "head", "embedding", "convolution"), supported),
    advice="choose one of those",
    limits=(_blocks,),
    experts="projection",
    own_name=own_name,
    columns=("int4-g32", "int5-g32", "int8-g32", "fp16"),
    backend="gguf",
)
