"""torchao: integers of 1 to 8 bits for Linear and Embedding, in groups that divide the row.

Source: torchao 0.18, ``quantization/quant_api.py``; the limits of :mod:`quantize.backends.torchao.apply`.
"""

from __future__ import annotations

from quantize.formats import StorageFormat
from quantize.runtimes.capabilities import CONVOLVED, Capabilities, Complaint, groups_divide


def supported(fmt: StorageFormat) -> Complaint | None:
    """Whether there is a configuration for the format.

    Args:
        fmt: A format that is not plain floating point.

    Returns:
        None where there is; else how bad it is and why.
    """
    if fmt.floating:
        known = fmt.name.startswith(("fp8", "mx", "nvfp4"))
        return ("warning", f"{fmt.name} needs a device with such arithmetic") if known else (
            "error", f"{fmt.name} is not among its formats")  # fmt: skip
    if not 1 <= fmt.bits <= 8:
        return "error", "integer weights have 1 to 8 bits there"
    if fmt.group_size == 1:
        return "error", "groups of one weight cannot be stored"
    return None


def _embeddings(fmt: StorageFormat) -> Complaint | None:
    if fmt.activation_bits < 16:
        return "error", f"an embedding has no inputs to round, so {fmt.name} cannot be"
    return supported(fmt)


TABLE = Capabilities(
    name="torchao",
    tested="torchao 0.18.0",
    reads=frozenset({"torchao"}),
    formats={"matrix": supported, "head": supported, "embedding": _embeddings},
    stays={"convolution": CONVOLVED},
    advice="choose int1 to int8, or fp16",
    limits=(groups_divide(consequence="quantize_ stops with an assertion"),),
    columns=("int3-g32", "int4-g32", "int8", "fp16"),
    backend="torchao",
)
