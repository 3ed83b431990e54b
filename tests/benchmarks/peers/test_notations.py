"""What peers call formats and layers, turned into ours; the peers themselves run only by the command."""

from __future__ import annotations

import torch

from benchmarks.peers import auto_round, mct, modelopt, nncf
from benchmarks.peers.registry import FORMATS, PEERS
from sensitivity.pretrained.text_encoder import encode, load_text_encoder, minilm_folder


def test_modelopt_is_read_by_the_bits_of_its_recipes() -> None:
    formats = ["int2-g64", "int3-g64", "int4-g64", "int8-g64"]
    bits = {f"{name}.quant_recipe": modelopt.recipe(name)["effective_bits"] for name in formats}
    assert modelopt.plan_of(bits, formats) == {name: name for name in formats}
    assert list(bits.values()) == [2.25, 3.25, 4.25, 8.25]


def test_nncf_is_read_from_constants_of_integers() -> None:
    constants = [
        ("self.a.weight", "i4"),
        ("self.a.weight/scale", "f16"),
        ("self.b.weight", "i8"),
        ("self.norm.weight", "f32"),
        ("self.b.bias", "i8"),
    ]
    assert nncf.plan_of(constants, ("int4-g64", "int8")) == {"a": "int4-g64", "b": "int8"}
    assert [nncf.mode(name) for name in ("int2-g64", "int8")] == ["INT2_SYM", "INT8_SYM"]


def test_auto_round_names_layers_without_our_wrapper() -> None:
    layers = {
        "encoder.a": {"bits": 2, "group_size": 64, "sym": True},
        "encoder.b": {"bits": 8, "group_size": 32, "sym": False},
    }
    assert auto_round.plan_of(layers) == {"encoder.a": "int2-g64", "encoder.b": "uint8-g32"}
    assert auto_round.scheme("int3-g64") == "W3A16G64"


def test_texts_are_cut_to_one_length_and_lose_only_the_end() -> None:
    pairs = [("a question", "an answer " * 50), ("another", "more " * 60)]
    texts = auto_round.texts_of(pairs)
    joined = " ".join(part for pair in pairs for part in pair)
    assert {len(text) for text in texts} == {400}
    assert joined.startswith("".join(texts))
    assert 0 <= len(joined) - 400 * len(texts) < 400


def test_the_formats_are_those_of_all_questions() -> None:
    assert {
        name for peer in PEERS.values() for question in peer.questions for name in question.formats
    } == set(FORMATS)


def test_mct_names_layers_by_their_place() -> None:
    plan = mct.plan_of({"blocks_0_query": 8, "blocks_11_down": 2}, ("int2", "int4", "int8"))
    assert plan == {
        "encoder.layer.0.attention.self.query": "int8",
        "encoder.layer.11.output.dense": "int2",
    }


def test_what_mct_traces_is_minilm() -> None:
    encoder, tokenizer = load_text_encoder(minilm_folder(), max_tokens=48)
    texts = ["a question about lists", "sorts a list in place and returns nothing " * 12, "none"]
    with torch.inference_mode():
        expected = encode(encoder, tokenizer(texts))
        found = mct.Traced(encoder)(*mct.inputs_of(encoder, tokenizer, texts))[:, 0]
    torch.testing.assert_close(torch.nn.functional.normalize(found, dim=-1), expected, rtol=0, atol=1e-6)
