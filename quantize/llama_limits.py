"""What llama.cpp's tools do with a format, and with rows that are no whole blocks of it.

Types with blocks of 256 fall back to another type. For the others ``llama-quantize`` has no fallback and stops with an
error, after the work on all tensors before.

Source: llama.cpp, ``src/llama-quant.cpp:tensor_type_fallback``.
"""

from __future__ import annotations

from allocator.contract.remarks import Severity
from quantize.exports.llama_cpp import FALLBACK, falls_back, whole_blocks
from quantize.formats import StorageFormat
from quantize.llama_types import OWN, TWINS, is_of_fork, type_name


def unsupported(fmt: StorageFormat) -> tuple[Severity, str] | None:
    """Whether a format has a type.

    Args:
        fmt: A format that is not plain floating point.

    Returns:
        None where it has; else how bad it is and why.

    Example:
        >>> from quantize.llama_types import format_named
        >>> unsupported(format_named("q4_k")), unsupported(format_named("iq4_ks"))[0]
        (None, 'warning')
    """
    if fmt.name in TWINS.values() or fmt.name in OWN:
        return None
    if is_of_fork(fmt):
        return "warning", f"{fmt.name} is a type of ik_llama.cpp, which llama.cpp itself cannot write or load"
    known = ", ".join([*sorted(TWINS.values()), "and the types of gguf"])
    return "error", f"{fmt.name} has no type; there are {known}"


def misfit(row: int, fmt: StorageFormat) -> tuple[Severity, str, str] | None:
    """Whether rows are whole blocks.

    Args:
        row: Weights in a row.

    Returns:
        None where they are; else how bad it is, what happens, and what to do.

    Example:
        >>> misfit(48, OWN["iq4_nl"])[0], misfit(288, OWN["q4_k"])[:2]
        ('error', ('warning', 'rows of 288 are not whole blocks of 256: the layer becomes q5_0'))
    """
    block = whole_blocks(fmt)
    if block is None or row % block == 0:
        return None
    what = f"rows of {row} are not whole blocks of {block}"
    if fmt.name in FALLBACK:
        made = falls_back(fmt, row)
        instead = "f16" if made is None or made.plain else type_name(made)
        return "warning", f"{what}: the layer becomes {instead}", _advice(row)
    if is_of_fork(fmt):
        return "warning", f"{what}: the layer becomes another type, or quantization stops", _advice(row)
    return "error", f"{what}, and {type_name(fmt)} has no fallback: llama-quantize stops there", _advice(row)


def _advice(row: int) -> str:
    return "leave the layer alone, or f16" if row % 32 else "choose a type with blocks of 32, or f16"
