"""Runtimes: what each of them loads, once, for everything that has to know.

To add one: write ``quantize/runtimes/<name>.py`` with a ``TABLE`` and list it here; ``quantize/lint`` takes its rules
from the table.
"""

from __future__ import annotations

from allocator.contract.registry import Registry
from quantize.ggml.library import installed
from quantize.runtimes.capabilities import KINDS, Capabilities, Kind, Objection, kind_of_name, objections

__all__ = [
    "KINDS",
    "RUNTIMES",
    "Capabilities",
    "Kind",
    "Objection",
    "columns_of",
    "kind_of_name",
    "objections",
    "readers_of",
]

RUNTIMES = Registry[Capabilities](
    "runtime",
    {
        "vllm": "quantize.runtimes.vllm",
        "sglang": "quantize.runtimes.sglang",
        "transformers": "quantize.runtimes.transformers",
        "llama.cpp": "quantize.runtimes.llama_cpp",
        "onnxruntime": "quantize.runtimes.onnxruntime",
        "torchao": "quantize.runtimes.torchao",
    },
    attribute="TABLE",
)


def columns_of(table: Capabilities) -> tuple[str, ...]:
    """The formats that a profile made for a runtime has as columns, where nobody says.

    Returns:
        Names of formats: those that this installation can round to.

    Example:
        >>> columns_of(RUNTIMES["torchao"])
        ('int3-g32', 'int4-g32', 'int8', 'fp16')
    """
    return (*(table.more_columns if installed() else ()), *table.columns)


def readers_of(target: str) -> tuple[str, ...]:
    """Find the runtimes that load the files of an export target or a backend.

    Args:
        target: Name of a target or a backend.

    Returns:
        Names of runtimes; none for a tool that no runtime here reads.

    Example:
        >>> readers_of("compressed-tensors")
        ('vllm', 'sglang', 'transformers')
    """
    return tuple(
        table.name for table in RUNTIMES.values() if target in table.reads or target == table.backend
    )
