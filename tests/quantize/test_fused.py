"""Which layers a runtime makes one of."""

from __future__ import annotations

from quantize.fused import FUSED, expert_blocks, fused_groups


def test_shards_of_one_parent_belong_together() -> None:
    layers = ["a.q_proj", "b.q_proj", "a.v_proj", "a.k_proj", "a.up_proj", "a.gate_proj", "x", "b.z"]
    assert fused_groups(layers) == {
        "a.qkv_proj": ("a.q_proj", "a.v_proj", "a.k_proj"),
        "a.gate_up_proj": ("a.up_proj", "a.gate_proj"),
    }


def test_names_without_a_parent_are_fused_too() -> None:
    assert fused_groups(["query", "key"]) == {"qkv_proj": ("query", "key")}


def test_a_shard_belongs_to_one_fused_layer() -> None:
    shards = [shard for _, group in FUSED for shard in group]
    assert len(shards) == len(set(shards))


def test_experts_are_stacked_and_not_fused() -> None:
    layers = [
        "l.mlp.experts.0.gate_proj",
        "l.mlp.experts.0.up_proj",
        "l.mlp.experts.1.up_proj",
        "experts.3.w1",
        "l.mlp.up_proj",
    ]
    assert fused_groups(layers) == {}
    assert expert_blocks(layers) == {"l.mlp.experts": tuple(layers[:3]), "experts": ("experts.3.w1",)}
    assert expert_blocks(layers, by_projection=True) == {
        "l.mlp.experts.*.gate_proj": (layers[0],),
        "l.mlp.experts.*.up_proj": (layers[1], layers[2]),
        "experts.*.w1": ("experts.3.w1",),
    }
