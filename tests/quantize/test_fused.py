"""Which layers a runtime makes one of."""

from __future__ import annotations

from quantize.fused import FUSED, fused_groups


def test_shards_of_one_parent_belong_together() -> None:
    layers = ["a.q_proj", "b.q_proj", "a.v_proj", "a.k_proj", "a.up_proj", "a.gate_proj", "x", "b.z"]
    assert fused_groups(layers) == {
        "a.qkv_proj": ("a.q_proj", "a.v_proj", "a.k_proj"),
        "a.gate_up_proj": ("a.up_proj", "a.gate_proj"),
    }


def test_names_without_a_parent_are_fused_too() -> None:
    assert fused_groups(["query", "key"]) == {"qkv": ("query", "key")}


def test_a_shard_belongs_to_one_fused_layer() -> None:
    shards = [shard for group in FUSED.values() for shard in group]
    assert len(shards) == len(set(shards))
