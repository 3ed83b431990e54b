"""SGLang: shards fuse as in vLLM, whose loaders it adapted; integer weights have 4 or 8 bits.

Source: SGLang 0.5.23, ``srt/layers/quantization/compressed_tensors/schemes/compressed_tensors_wNa16.py``,
``…/gptq/gptq.py``, ``…/marlin_utils.py``, ``…/__init__.py``.
"""

from __future__ import annotations

from quantize.formats import StorageFormat
from quantize.runtimes.capabilities import CONVOLVED, Capabilities, Complaint, groups_divide, tiles
from quantize.runtimes.vllm import LOOKED_UP

_FLOATS = {"fp8-e4m3", "fp8_e4m3", "fp8", "nvfp4", "mxfp4", "mxfp8", "fp4", "fp8_pb_wo", "fp8_block_scales",
           "w4a16_nvfp4"}  # fmt: skip


def supported(fmt: StorageFormat) -> Complaint | None:
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


def _heads(fmt: StorageFormat) -> Complaint | None:
    # sglang#35358, closed by sglang#35228 in August 2026.
    recent = "releases before August 2026 load a quantized head without its codes and answer with noise"
    return supported(fmt) or ("warning", recent)


TABLE = Capabilities(
    name="sglang",
    tested="SGLang 0.5.23",
    reads=frozenset({"compressed-tensors", "llm-compressor", "gptqmodel", "auto-round", "modelopt", "quark"}),
    formats={"matrix": supported, "head": _heads},
    advice="choose int4 or int8 in groups of 32, 64 or 128, or whole rows",
    stays={"embedding": LOOKED_UP, "convolution": CONVOLVED},
    limits=(groups_divide(), tiles(64, 128, "the loader refuses it, or runs a slower kernel")),
    fuses=True,
    experts="block",
    units="vllm",
    columns=("int4-g32", "int4-g128", "int8", "fp16"),
    backend="compressed-tensors",
)
