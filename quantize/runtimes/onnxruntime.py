"""ONNX Runtime: MatMulNBits has 2, 4 and 8 bits in groups of 16 to 256, powers of two; rows are padded.

Source: onnxruntime 1.31, ``contrib_ops/cpu/quantization/matmul_nbits.cc`` ("Only block sizes 16, 32, 64, 128, and 256
are supported"), ``quantization/matmul_nbits_quantizer.py``; operators ``com.microsoft.MatMulNBits`` and
``com.microsoft.GatherBlockQuantized``. Convolutions have 8 bits and one scale per output, between QDQ nodes.
"""

from __future__ import annotations

from quantize.formats import StorageFormat
from quantize.runtimes.capabilities import Capabilities, Complaint

#: Groups that the operator has.
GROUPS = (16, 32, 64, 128, 256)
#: Bits that it has.
WIDTHS = (2, 4, 8)


def supported(fmt: StorageFormat) -> Complaint | None:
    """Whether MatMulNBits has the format.

    Args:
        fmt: A format that is not plain floating point.

    Returns:
        None where it has; else how bad it is and why.
    """
    if fmt.floating or fmt.activation_bits < 16:
        return "error", f"{fmt.name} is no integer format of weights alone, and the operator has no other"
    if fmt.bits not in WIDTHS:
        return "error", "the operator has 2, 4 and 8 bits"
    if fmt.group_size not in GROUPS:
        return "error", "the operator has groups of 16, 32, 64, 128 and 256 weights"
    return None


def convolutions(fmt: StorageFormat) -> Complaint | None:
    """Whether convolutions have the format.

    Args:
        fmt: A format that is not plain floating point.

    Returns:
        None where they have; else how bad it is and why.
    """
    return None if fmt.name == "int8" else ("error", "convolutions have int8, one scale per output")


TABLE = Capabilities(
    name="onnxruntime",
    tested="onnxruntime 1.31.1",
    reads=frozenset({"onnxruntime", "olive"}),
    formats={"matrix": supported, "head": supported, "embedding": supported, "convolution": convolutions},
    advice="choose int2, int4 or int8 in groups of 16, 32, 64, 128 or 256",
    columns=("int2-g64", "int4-g64", "int8-g64", "fp16"),
    backend="onnxruntime",
)
