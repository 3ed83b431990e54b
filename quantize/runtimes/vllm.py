"""vLLM: shards fuse, Marlin kernels, embeddings stay.

Source: vLLM, ``quantization/compressed_tensors/utils.py`` (a fused layer takes the scheme of its first shard),
``…/schemes/compressed_tensors_wNa16.py``, ``quantization/utils/gptq_utils.py``, ``…/utils/marlin_utils.py``
(``GPTQ_MARLIN_MIN_THREAD_K`` = 128, ``GPTQ_MARLIN_MIN_THREAD_N`` = 64); a quantized head is loaded since vllm#37291,
March 2026.
"""

from __future__ import annotations

from quantize.formats import StorageFormat
from quantize.runtimes.capabilities import CONVOLVED, Capabilities, Complaint, groups_divide, tiles

_FLOATS = {"fp8-e4m3", "fp8_e4m3", "fp8", "nvfp4", "mxfp4", "mxfp8", "fp4", "mx_fp", "nv_fp", "w4a16_nvfp4",
           "fp8_pb_wo", "fp8_per_channel_per_token"}  # fmt: skip
_MARLIN_GROUPS = {None, 32, 64, 128}
#: Why servers leave embeddings alone.
LOOKED_UP = "the runtime keeps embeddings in floating point and does not find the weight it looks for"


def supported(fmt: StorageFormat) -> Complaint | None:
    """Whether there is a kernel.

    Args:
        fmt: A format that is not plain floating point.

    Returns:
        None where there is; else how bad it is and why.
    """
    if fmt.name == "mxfp8":
        return "warning", "not every release has a kernel for mxfp8 weights whose inputs stay as they are"
    if fmt.floating:
        return None if fmt.name in _FLOATS else ("warning", f"{fmt.name} is not among its formats")
    if not fmt.symmetric and fmt.bits not in {4, 8}:
        return "error", "weights with zero points have 4 or 8 bits there"
    if fmt.bits not in {4, 8}:
        if not 2 <= fmt.bits <= 8:
            return "error", "integer weights have 2 to 8 bits there"
        return (
            "warning",
            "all releases have 4 and 8 bits; other widths need a recent one, and not every device has them",
        )
    if fmt.group_size not in _MARLIN_GROUPS:
        return "warning", "its fast kernels have groups of 32, 64, 128 and whole rows"
    return None


TABLE = Capabilities(
    name="vllm",
    tested="vLLM main, 2026",
    reads=frozenset(
        {"compressed-tensors", "llm-compressor", "gptqmodel", "auto-round", "modelopt", "quark", "torchao"}
    ),
    formats={"matrix": supported, "head": supported},
    advice="choose int4 or int8 in groups of 32, 64 or 128, or whole rows",
    stays={"embedding": LOOKED_UP, "convolution": CONVOLVED},
    limits=(groups_divide(), tiles(64, 128, "older releases refuse it, and others run a slower kernel")),
    fuses=True,
    experts="block",
    units="vllm",
    columns=("int4-g32", "int4-g128", "int8", "fp16"),
    backend="compressed-tensors",
)
