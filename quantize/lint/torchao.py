"""torchao: integers of 1 to 8 bits for Linear and Embedding, in groups that divide the row.

Source: torchao 0.18, ``quantization/quant_api.py``; the limits of :mod:`quantize.backends.torchao.apply`.
"""

from __future__ import annotations

from quantize.formats import StorageFormat
from quantize.lint.findings import Runtime, Severity
from quantize.lint.rules import formats, group_sizes, tied_weights, unknown_names


def supported(fmt: StorageFormat) -> tuple[Severity, str] | None:
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


RUNTIME = Runtime(
    reads=frozenset({"torchao"}),
    checks=(
        tied_weights,
        unknown_names,
        group_sizes(consequence="quantize_ stops with an assertion"),
        formats(supported, "choose int1 to int8, or fp16"),
    ),
    tested="torchao 0.18.0",
)
