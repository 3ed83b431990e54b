"""A mixed GGUF file, tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from allocator import InvalidInputError
from quantize import apply, parse_format, round_trip
from tests.quantize.models import tiny_decoder, tiny_llama

PLAN = {
    "model.embed_tokens": "int8-g32",
    "model.layers.0.self_attn.q_proj": "int4-g32",
    "model.layers.0.mlp.down_proj": "int5-g32",
    "model.layers.1.mlp.up_proj": "mxfp4",
    "model.layers.1.self_attn.v_proj": "bf16",
    "lm_head": "fp16",
}
TYPES = {
    "token_embd": "Q8_0", "blk.0.attn_q": "Q4_0", "blk.0.ffn_down": "Q5_0", "blk.1.ffn_up": "MXFP4",
    "blk.1.attn_v": "BF16", "output": "F16",
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_llama().save_pretrained(folder)
    return folder


def test_every_tensor_has_its_type_and_the_rest_keeps_its_precision(checkpoint: Path, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(apply(checkpoint, PLAN, "gguf", path=tmp_path / "out.gguf"))
    found = {tensor.name.removesuffix(".weight"): tensor for tensor in reader.tensors}
    original = load_file(checkpoint / "model.safetensors")
    assert len(found) == len(original)
    for name, tensor in found.items():
        assert tensor.tensor_type.name == TYPES.get(name, "F32")
    for layer, own in zip(PLAN, TYPES, strict=True):
        shape = original[f"{layer}.weight"].shape
        assert tuple(found[own].shape) == tuple(reversed(shape))
        assert found[own].n_bytes == parse_format(PLAN[layer]).stored_bytes(shape)
    norm = found["blk.1.attn_norm"].data
    assert np.array_equal(norm, original["model.layers.1.input_layernorm.weight"].numpy())


def test_the_file_is_as_large_as_its_tensors_and_its_facts(checkpoint: Path, tmp_path: Path) -> None:
    path = apply(checkpoint, PLAN, "gguf", path=tmp_path / "out.gguf")
    reader = gguf.GGUFReader(path)
    padded = sum(-(-int(tensor.n_bytes) // 32) * 32 for tensor in reader.tensors)
    assert path.stat().st_size == reader.data_offset + padded


def test_blocks_are_those_of_the_package_where_both_choose_the_same_codes(
    checkpoint: Path, tmp_path: Path
) -> None:
    # Multiples of a scale that half precision holds, from the least code to the greatest: nothing is left to choose.
    tensors = load_file(checkpoint / "model.safetensors")
    layer, codes = "model.layers.0.mlp.down_proj", np.random.default_rng(0).integers(-7, 8, size=(64, 96))
    codes[:, ::32] = -8
    tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"].new_tensor(codes * 0.25)
    (tmp_path / "in").mkdir()
    save_file(tensors, tmp_path / "in" / "model.safetensors")
    (tmp_path / "in" / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    path = apply(tmp_path / "in", {layer: "fp32"}, "gguf", path=tmp_path / "plain.gguf")
    (plain,) = (item for item in gguf.GGUFReader(path).tensors if item.name == "blk.0.ffn_down.weight")
    for name, kind in (("int4-g32", "Q4_0"), ("mxfp4", "MXFP4")):
        path = apply(tmp_path / "in", {layer: name}, "gguf", path=tmp_path / f"{name}.gguf")
        (made,) = (item for item in gguf.GGUFReader(path).tensors if item.name == "blk.0.ffn_down.weight")
        theirs = gguf.quantize(plain.data, gguf.GGMLQuantizationType[kind])
        values = gguf.dequantize(theirs, gguf.GGMLQuantizationType[kind])
        if name == "mxfp4":  # ties go to the even element here, to the smaller one there
            keep = np.abs(values - gguf.dequantize(made.data, made.tensor_type)) < 1e-9
            assert keep.mean() > 0.8
            continue
        # Ours spans the group with 7.5 steps to either side, theirs with 8 down: the same layout, other scales.
        assert made.data.shape == theirs.shape
        assert np.abs(gguf.dequantize(made.data, made.tensor_type) - plain.data).max() <= 0.25


@pytest.mark.parametrize(
    ("kind", "architecture", "beside"),
    [
        ("mistral", "llama", set()),
        ("llama3", "llama", {"rope_freqs.weight"}),
        ("qwen2", "qwen2", {"blk.1.attn_q.bias", "blk.1.attn_k.bias", "blk.1.attn_v.bias"}),
        ("qwen3", "qwen3", {"blk.1.attn_q_norm.weight", "blk.1.attn_k_norm.weight"}),
    ],
)
def test_other_architectures_have_their_own_tensors(
    tmp_path: Path, kind: str, architecture: str, beside: set[str]
) -> None:
    model = tiny_decoder(kind)
    model.save_pretrained(tmp_path / "in")
    layer = "model.layers.1.self_attn.q_proj"
    reader = gguf.GGUFReader(apply(tmp_path / "in", {layer: "int8-g32"}, "gguf", path=tmp_path / "out.gguf"))
    assert reader.fields["general.architecture"].contents() == architecture
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert beside <= set(found)
    assert len(found) == len(load_file(tmp_path / "in" / "model.safetensors")) + (kind == "llama3")
    made = gguf.dequantize(found["blk.1.attn_q.weight"].data, gguf.GGMLQuantizationType.Q8_0)
    expected = round_trip(model.get_submodule(layer).weight.detach().numpy(), parse_format("int8-g32"))
    assert np.array_equal(made, expected) == (
        architecture != "llama"
    )  # Llamas have their rows in another order
    assert np.array_equal(np.sort(made, axis=0), np.sort(expected, axis=0))


def test_facts_are_those_of_the_model(checkpoint: Path, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(apply(checkpoint, PLAN, "gguf", path=tmp_path / "out.gguf"))
    facts = {name: field.contents() for name, field in reader.fields.items()}
    expected = {
        "general.architecture": "llama", "llama.block_count": 2, "llama.context_length": 32,
        "llama.embedding_length": 64, "llama.feed_forward_length": 96, "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2, "llama.rope.dimension_count": 16, "llama.vocab_size": 50,
        "llama.rope.freq_base": 10000.0, "tokenizer.ggml.model": "no_vocab",
    }  # fmt: skip
    assert {name: facts[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"model_type": "bert"},
            "/model: unknown model_type 'bert'; known: 'llama', 'mistral', 'qwen2', 'qwen3'",
        ),
        (
            {"rope_parameters": {"rope_type": "yarn"}},
            "/model: expected rotary positions that are 'default' or 'llama3', got 'yarn'",
        ),
        ({"quantization_config": {}}, "/model: .* is quantized already, by another tool"),
    ],
)
def test_other_models_are_refused(
    checkpoint: Path, tmp_path: Path, change: dict[str, object], match: str
) -> None:
    config = json.loads((checkpoint / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    with pytest.raises(InvalidInputError, match=match):
        apply(tmp_path, PLAN, "gguf", path=tmp_path / "out.gguf")


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"/model: expected a folder with config.json"):
        apply(tmp_path, PLAN, "gguf", path=tmp_path / "out.gguf")


def test_tensors_without_a_place_are_named(checkpoint: Path, tmp_path: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    save_file(
        {**tensors, "model.layers.0.adapter.weight": tensors["lm_head.weight"].clone()},
        tmp_path / "a.safetensors",
    )
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    with pytest.raises(
        InvalidInputError, match=r"/model/model.layers.0.adapter.weight: llama.cpp's llama has no such"
    ):
        apply(tmp_path, PLAN, "gguf", path=tmp_path / "out.gguf")


def test_rows_that_are_no_whole_blocks_are_refused(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=10, hidden_size=48, intermediate_size=40, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "in")
    with pytest.raises(
        InvalidInputError, match=r"/assignment/lm_head: llama.cpp needs rows of whole blocks of 32, which 48"
    ):
        apply(tmp_path / "in", {"lm_head": "int4-g32"}, "gguf", path=tmp_path / "out.gguf")
