"""Layers that runtimes fuse into one: their shards have to share one format."""

from __future__ import annotations

from collections.abc import Iterable

#: Fused name → shards, for the last part of a name. From vLLM's and SGLang's ``packed_modules_mapping``.
FUSED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "qkv": ("query", "key", "value"),
    "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"),
    "in_proj_ba": ("in_proj_b", "in_proj_a"),
    "fused_qkv_a_proj_with_mqa": ("q_a_proj", "kv_a_proj_with_mqa"),
    "w13": ("w1", "w3"),
}


def fused_groups(layers: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Find the layers that a runtime will fuse.

    Args:
        layers: Names of layers.

    Returns:
        Fused name → its shards among the layers; groups of one are left out.

    Example:
        >>> fused_groups(["attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.o_proj"])
        {'attn.qkv_proj': ('attn.q_proj', 'attn.k_proj', 'attn.v_proj')}
    """
    shard_of = {shard: fused for fused, shards in FUSED.items() for shard in shards}
    groups: dict[str, list[str]] = {}
    for layer in layers:
        parent, dot, last = layer.rpartition(".")
        if last in shard_of:
            groups.setdefault(f"{parent}{dot}{shard_of[last]}", []).append(layer)
    return {fused: tuple(shards) for fused, shards in groups.items() if len(shards) > 1}
