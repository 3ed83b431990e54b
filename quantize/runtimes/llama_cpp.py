"""llama.cpp: types of its own, in blocks of 32 or 256 along a row; what does not fit falls back to another type.

Source: llama.cpp, ``src/llama-quant.cpp:tensor_type_fallback``; block sizes from gguf 0.19.
"""

from __future__ import annotations

from quantize.exports.llama_names import is_elsewhere, own_name
from quantize.formats import StorageFormat
from quantize.llama_limits import misfit, unsupported
from quantize.runtimes.capabilities import Capabilities, Objection


def _blocks(rows: int, row: int, fmt: StorageFormat) -> Objection | None:
    del rows
    found = misfit(row, fmt)
    if found is None:
        return None
    severity, detail, advice = found
    return Objection(severity, "group-sizes", detail, advice)


TABLE = Capabilities(
    name="llama.cpp",
    tested="llama.cpp main, 2026",
    reads=frozenset({"llama.cpp"}),
    formats=dict.fromkeys(("matrix", "head", "embedding", "convolution"), unsupported),
    advice="choose one of those",
    limits=(_blocks,),
    experts="projection",
    own_name=own_name,
    elsewhere=is_elsewhere,
    columns=("int4-g32", "int5-g32", "int8-g32", "fp16"),
    backend="gguf",
    block_types=True,
)
