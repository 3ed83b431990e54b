"""Names of tensors, against the table of the gguf package."""

from __future__ import annotations

import pytest

from quantize.exports.llama_names import is_elsewhere, is_router, is_stack, own_name, pattern_of

#: Where two architectures give one name two meanings, or a name is a tensor's own.
AMBIGUOUS = {"blk.0.nextn.embed_tokens"}


@pytest.fixture(scope="module")
def tensors() -> dict[str, set[str]]:
    from gguf.constants import MODEL_ARCH
    from gguf.tensor_mapping import TensorNameMap

    found: dict[str, set[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        for architecture in MODEL_ARCH:
            # A map of one architecture leaves its exceptions in the class, for all that are made later.
            patch.setattr(TensorNameMap, "block_mappings_cfg", dict(TensorNameMap.block_mappings_cfg))
            for name, (_, tensor) in TensorNameMap(architecture, 1).mapping.items():
                found.setdefault(name, set()).add(tensor)
            patch.undo()
    return found


def test_every_name_that_is_known_is_that_of_gguf(tensors: dict[str, set[str]]) -> None:
    known = {name: own_name(name) for name in tensors}
    wrong = {
        name: (own, tensors[name])
        for name, own in known.items()
        if own is not None and own.removesuffix(".weight") not in tensors[name] and name not in AMBIGUOUS
    }
    assert wrong == {}
    assert sum(own is not None for own in known.values()) > 350


@pytest.mark.parametrize(
    ("layer", "tensor"),
    [
        ("model.layers.3.mlp.experts.11.gate_proj", "blk.3.ffn_gate_exps.weight"),
        ("model.layers.3.mlp.experts.up_proj", "blk.3.ffn_up_exps.weight"),
        ("model.language_model.layers.3.mlp.experts.gate_up_proj", "blk.3.ffn_gate_up_exps.weight"),
        ("model.layers.0.block_sparse_moe.experts.7.w1", "blk.0.ffn_gate_exps.weight"),
        ("model.layers.0.block_sparse_moe.experts.7.w2", "blk.0.ffn_down_exps.weight"),
        ("model.layers.0.block_sparse_moe.experts.7.w3", "blk.0.ffn_up_exps.weight"),
        ("model.layers.0.block_sparse_moe.gate", "blk.0.ffn_gate_inp.weight"),
        ("model.layers.5.feed_forward.experts.down_proj", "blk.5.ffn_down_exps.weight"),
        ("model.layers.5.mlp.shared_experts.up_proj", "blk.5.ffn_up_shexp.weight"),
        ("model.layers.5.mlp.shared_expert.gate_proj", "blk.5.ffn_gate_shexp.weight"),
        ("model.layers.5.self_attn.kv_a_proj_with_mqa", "blk.5.attn_kv_a_mqa.weight"),
        ("transformer.h.4.mlp.c_fc", "blk.4.ffn_up.weight"),
        ("gpt_neox.layers.2.attention.query_key_value", "blk.2.attn_qkv.weight"),
        ("model.visual.blocks.0.attn.q_proj", None),
        ("vision_tower.vision_model.encoder.layers.0.self_attn.q_proj", None),
        ("model.layers.5.mlp.experts.3.unheard_of", None),
    ],
)
def test_mixtures_and_other_families_are_named(layer: str, tensor: str | None) -> None:
    assert own_name(layer) == tensor


def test_stacks_routers_and_towers_are_told() -> None:
    assert is_stack("blk.0.ffn_gate_exps.weight")
    assert is_stack("blk.0.ffn_up_chexps.weight")
    assert not is_stack("blk.0.ffn_up_shexp.weight")
    assert is_router("blk.0.ffn_gate_inp.weight")
    assert not is_router("blk.0.ffn_gate_inp_shexp.weight")
    assert is_elsewhere("model.visual.blocks.0.attn.qkv")
    assert not is_elsewhere("model.layers.0.mlp.up_proj")


def test_what_the_conversion_may_split_is_matched_by_either_name() -> None:
    import re

    pattern = re.compile(pattern_of("blk.1.ffn_gate_up_exps.weight"))
    for name in ("ffn_gate_up_exps", "ffn_gate_exps", "ffn_up_exps"):
        assert pattern.search(f"blk.1.{name}.weight")
    assert not pattern.search("blk.11.ffn_gate_exps.weight")
    assert not pattern.search("blk.1.ffn_down_exps.weight")
    assert re.search(pattern_of("blk.1.attn_kv_b.weight"), "blk.1.attn_k_b.weight")
