"""ONNX Runtime: MatMulNBits has 2, 4 and 8 bits in groups that are powers of two from 16; rows are padded.

Source: onnxruntime 1.31, ``quantization/matmul_nbits_quantizer.py``; operator ``com.microsoft.MatMulNBits``.
"""

from __future__ import annotations

from quantize.formats import StorageFormat
from quantize.lint.findings import Runtime, Severity
from quantize.lint.rules import formats, tied_weights, unknown_names


def supported(fmt: StorageFormat) -> tuple[Severity, str] | None:
    """Whether the operator has the format.

    Args:
        fmt: A format that is not plain floating point.

    Returns:
        None where it has; else how bad it is and why.
    """
    if fmt.floating:
        return "error", f"{fmt.name} is no integer format, and the operator has no other"
    if fmt.bits not in {2, 4, 8}:
        return "error", "the operator has 2, 4 and 8 bits"
    size = fmt.group_size
    if size is None or size < 16 or size & (size - 1):
        return "error", "the operator has groups of 16, 32, 64, … weights, powers of two"
    return None


RUNTIME = Runtime(
    reads=frozenset({"onnxruntime", "olive"}),
    checks=(
        tied_weights,
        unknown_names,
        formats(supported, "choose int2, int4 or int8 in groups of 16, 32, 64, 128 or 256"),
    ),
    tested="onnxruntime 1.31.1",
)
