"""Layers that runtimes make one of: their shards have to share one format."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Fused name and shards, by the last part of a name. From vLLM's and SGLang's ``packed_modules_mapping``.
FUSED = (
    ("qkv_proj", ("q_proj", "k_proj", "v_proj")),
    ("qkv_proj", ("query", "key", "value")),
    ("gate_up_proj", ("gate_proj", "up_proj")),
    ("gate_up_proj", ("w1", "w3")),
    ("in_proj_qkvz", ("in_proj_qkv", "in_proj_z")),
    ("in_proj_ba", ("in_proj_b", "in_proj_a")),
    ("fused_qkv_a_proj_with_mqa", ("q_a_proj", "kv_a_proj_with_mqa")),
)
_EXPERT = re.compile(r"((?:.*\.)?experts)\.\d+\.(.+)")


def fused_groups(layers: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Find the layers that a runtime will fuse.

    Returns:
        Fused name → its shards among the layers; groups of one are left out, and experts, which are stacked.

    Example:
        >>> fused_groups(["attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.o_proj"])
        {'attn.qkv_proj': ('attn.q_proj', 'attn.k_proj', 'attn.v_proj')}
    """
    fused_of = {shard: fused for fused, shards in FUSED for shard in shards}
    groups: dict[str, list[str]] = {}
    for layer in layers:
        parent, dot, last = layer.rpartition(".")
        if last in fused_of and not _EXPERT.fullmatch(layer):
            groups.setdefault(f"{parent}{dot}{fused_of[last]}", []).append(layer)
    return {fused: tuple(shards) for fused, shards in groups.items() if len(shards) > 1}


def expert_blocks(layers: Iterable[str], *, by_projection: bool = False) -> dict[str, tuple[str, ...]]:
    """Find the experts that a runtime will stack.

    Args:
        by_projection: Whether each projection of a block is a stack of its own.

    Returns:
        Name of the block (``….experts``, with ``.*.<projection>`` where those are apart) → its layers.

    Example:
        >>> expert_blocks(["mlp.experts.0.up", "mlp.experts.1.up", "mlp.gate"])
        {'mlp.experts': ('mlp.experts.0.up', 'mlp.experts.1.up')}
    """
    blocks: dict[str, list[str]] = {}
    for layer in layers:
        if found := _EXPERT.fullmatch(layer):
            name = f"{found[1]}.*.{found[2]}" if by_projection else found[1]
            blocks.setdefault(name, []).append(layer)
    return {name: tuple(found) for name, found in blocks.items()}
