"""SGLang: shards fuse as in vLLM, whose loaders it adapted; integer weights have 4 or 8 bits.

Source: SGLang 0.5.23, ``srt/layers/quantization/compressed_tensors/schemes/compressed_tensors_wNa16.py``,
``…/gptq/gptq.py``, ``…/marlin_utils.py``, ``…/__init__.py``.
"""

from __future__ import annotations

from quantize.formats import StorageFormat
from quantize.lint.findings import Runtime, Severity
from quantize.lint.rules import (
    embeddings_stay,
    experts,
    formats,
    fused_shards,
    group_sizes,
    rules_survive_fusion,
    tied_weights,
    unknown_names,
)

_FLOATS = {"fp8-e4m3", "fp8_e4m3", "fp8", "nvfp4", "mxfp4", "mxfp8", "fp4", "fp8_pb_wo", "fp8_block_scales",
           "w4a16_nvfp4"}  # fmt: skip


def supported(fmt: StorageFormat) -> tuple[Severity, str] | None:
    """Whether there is a kernel.

    Args:
        fmt: A format that is not plain floating point.

    Returns:
        None where there is; else how bad it is and why.
    """
    if fmt.floating:
        return None if fmt.name in _FLOATS else ("warning", f"{fmt.name} is not among its formats")
    if fmt.bits not in {4, 8}:
        return "error", "integer weights have 4 or 8 bits there"
    if fmt.group_size not in {None, 32, 64, 128}:
        return "error", "its kernels have groups of 32, 64, 128 and whole rows"
    return None


RUNTIME = Runtime(
    reads=frozenset({"compressed-tensors", "gptqmodel", "auto-round", "modelopt", "quark"}),
    checks=(
        fused_shards,
        experts(whole_block=True),
        tied_weights,
        unknown_names,
        group_sizes(),
        formats(supported, "choose int4 or int8 in groups of 32, 64 or 128, or whole rows"),
        embeddings_stay,
        rules_survive_fusion,
    ),
    tested="SGLang 0.5.23",
)
