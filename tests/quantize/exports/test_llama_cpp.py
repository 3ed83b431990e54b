"""llama.cpp: tensor types, their twins among our formats, and names of tensors."""

from __future__ import annotations

import pytest

from allocator import InvalidInputError
from quantize.exports import export, read
from quantize.exports.llama_cpp import OWN, TYPES, base_type, own_name
from quantize.formats import parse_format


@pytest.mark.parametrize(
    ("layer", "tensor"),
    [
        ("model.layers.3.self_attn.o_proj", "blk.3.attn_output.weight"),
        ("model.language_model.layers.12.mlp.gate_proj", "blk.12.ffn_gate.weight"),
        ("bert.encoder.layer.0.attention.self.value", "blk.0.attn_v.weight"),
        ("encoder.layer.7.output.dense", "blk.7.ffn_down.weight"),
        ("encoder.layer.7.attention.output.dense", "blk.7.attn_output.weight"),
        ("model.embed_tokens", "token_embd.weight"),
        ("backbone.embeddings.word_embeddings", "token_embd.weight"),
        ("lm_head", "output.weight"),
        ("blk.0.ffn_up_exps", "blk.0.ffn_up_exps.weight"),
        ("model.layers.3.mlp.router", "blk.3.ffn_gate_inp.weight"),
        ("conv1", None),
    ],
)
def test_tensors_are_named_as_in_the_file(layer: str, tensor: str | None) -> None:
    assert own_name(layer) == tensor


def test_one_line_per_tensor() -> None:
    plan = {"model.layers.0.mlp.up_proj": "int4-g32", "lm_head": "fp16", "blk.1.attn_q": "q4_k"}
    (text,) = export(plan, "llama.cpp", others=["model.embed_tokens"]).files.values()
    assert text.splitlines() == [
        r"^blk\.0\.ffn_up\.weight$=q4_0",
        r"^output\.weight$=f16",
        r"^blk\.1\.attn_q\.weight$=q4_k",
        r"^token_embd\.weight$=f16",
    ]


def test_widths_without_a_twin_become_k_quants() -> None:
    plan = {
        "blk.0.attn_q": "int3-g64",
        "blk.0.attn_k": "int6",
        "blk.0.attn_v": "uint2-g16",
        "blk.0.ffn_up": "int7",
    }
    losses = {loss.layer: loss.instead for loss in export(plan, "llama.cpp").losses}
    assert losses == {
        "blk.0.attn_q": "q3_k",
        "blk.0.attn_k": "q6_k",
        "blk.0.attn_v": "q2_k",
        "blk.0.ffn_up": "fp16",
    }


def test_a_layer_without_a_tensor_is_lost() -> None:
    (loss,) = export({"conv1": "int4-g32", "lm_head": "int8-g32"}, "llama.cpp").losses
    assert (loss.layer, loss.reason) == ("conv1", "it has no name for this layer; give one")


def test_the_first_pattern_found_in_a_name_decides() -> None:
    text = "blk\\.[0-9]+\\.attn_(q|k)\\.weight$=Q4_K  attn=q8_0\nffn_down=q6_k\n\nnothing=f32\n"
    layers = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.self_attn.v_proj",
        "model.layers.5.mlp.down_proj",
        "lm_head",
    ]
    found = read("llama.cpp", {"plan.txt": text}, layers=layers)
    assert list(found.assignment.values()) == ["q4_k", "int8-g32", "q6_k", "fp16"]
    assert found.unused == ("nothing",)


def test_twins_have_the_bits_and_groups_of_gguf() -> None:
    exact = {
        "q4_0": 4.5,
        "q5_0": 5.5,
        "q8_0": 8.5,
        "f16": 16.0,
        "bf16": 16.0,
        "f32": 32.0,
    }
    for kind, twin in TYPES.items():
        bits = parse_format(twin).stored_bytes((1, 256)) * 8 / 256
        assert bits == exact[kind]


def test_the_base_type_is_quantized() -> None:
    formats = {"a": parse_format("fp16"), "b": parse_format("fp16"), "c": parse_format("int5-g32")}
    assert base_type(formats) == "Q5_0"
    assert base_type({"a": parse_format("fp16")}) == "Q8_0"
    assert base_type({"a": OWN["q4_k"]}) == "Q4_K"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=q4_0\nb", "line 2: expected pattern=type, got 'b'"),
        ("=q4_0", "line 1: expected pattern=type"),
        ("a=q4_7", "line 1: unknown type 'q4_7'; known: q4_0, q5_0"),
        ("(=q4_0", r"'\(' is no regular expression"),
    ],
)
def test_lines_that_cannot_be_read_are_named(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"/plan.txt: {message}"):
        read("llama.cpp", {"plan.txt": text})
