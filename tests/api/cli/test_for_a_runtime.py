"""`bitalloc profile --for RUNTIME`, planned and applied: the runtime's own package loads what was written."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from allocator import Allocation, load_profile
from quantize import apply
from quantize.ggml.library import installed
from quantize.runtimes import RUNTIMES, columns_of
from sensitivity.pretrained.language_model import load_language_model
from sensitivity.pretrained.text_encoder import load_text_encoder
from sensitivity.pretrained.text_export import onnx_encoder
from tests.api.conftest import Run
from tests.quantize.ggml.marks import NEEDS_GGML

#: The tokenizer of the tests is one that llama.cpp would read otherwise.
GGUF = ("--backend", "gguf", "--no-vocabulary")
LANGUAGE = ("--length", "16", "--count", "4", "--tables", "weight_error")


def planned(bitalloc: Run, bits: str, table: str, *options: object) -> dict[str, str]:
    done = bitalloc("profile", *options, "--out", "profile.json")
    assert done.code == 0, done.err
    done = bitalloc(
        "solve", "profile.json", "-o", table, "-b", f"effective_bits={bits}", "--out", "plan.json"
    )
    assert done.code == 0, done.err
    assignment = Allocation.model_validate_json(Path("plan.json").read_bytes()).assignment
    assert assignment is not None
    assert len(set(assignment.values())) > 1
    return assignment


def test_llama_cpp_gets_a_file_with_the_planned_types(
    bitalloc: Run, tiny_language_model: Path, corpus: Path
) -> None:
    import gguf

    model = ("--model", tiny_language_model)
    # Where ggml is installed K-quants are columns too, and rows of this model fall back from all of them.
    offered = columns_of(RUNTIMES["llama.cpp"])
    assert ("q4_k" in offered) == installed()
    columns = ("--formats", "int4-g32,int5-g32,int8-g32,fp16")
    asked = ("--for", "llama.cpp", *columns, *model, "--text", corpus, *LANGUAGE)
    plan = planned(bitalloc, "6", "weight_error", *asked)
    done = bitalloc("apply", "plan.json", *GGUF, *model, "--profile", "profile.json")
    assert done.code == 0, done.err
    refused = bitalloc("apply", "plan.json", "--backend", "gguf", *model, "--out", "other.gguf")
    assert (refused.code, Path("other.gguf").exists()) == (2, False)
    assert "tokenizer.json has a model of the kind 'WordPiece'" in refused.err
    assert "--no-vocabulary" in refused.err
    types = {item.name: item.tensor_type.name for item in gguf.GGUFReader("model.gguf").tensors}
    expected = {"int4-g32": "Q4_0", "int5-g32": "Q5_0", "int8-g32": "Q8_0", "fp16": "F16"}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
    for layer, fmt in plan.items():
        assert types[f"{names.get_name(layer)}.weight"] == expected[fmt]


@NEEDS_GGML
def test_k_quants_are_offered_and_the_file_has_what_rows_make_of_them(
    bitalloc: Run, tiny_language_model: Path, corpus: Path
) -> None:
    import gguf

    model = ("--model", tiny_language_model)
    asked = ("--for", "llama.cpp", *model, "--text", corpus, *LANGUAGE)
    plan = planned(bitalloc, "5.4", "weight_error", *asked)
    profile = load_profile(Path("profile.json"))
    assert list(profile.formats)[:5] == ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"]
    assert "become q5_0, bytes and codes alike" in profile.provenance.notes["/formats/q4_k"]
    done = bitalloc("apply", "plan.json", *GGUF, *model, "--profile", "profile.json")
    assert done.code == 0, done.err
    found = {item.name: int(item.n_bytes) for item in gguf.GGUFReader("model.gguf").tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
    rows = {row.name: index for index, row in enumerate(profile.layers)}
    for layer, fmt in plan.items():
        promised = profile.resources["weight_bytes"].values[rows[layer]][list(profile.formats).index(fmt)]
        assert found[f"{names.get_name(layer)}.weight"] == promised


@NEEDS_GGML
def test_types_that_need_moments_get_those_of_the_profile(
    bitalloc: Run, tiny_language_model: Path, corpus: Path
) -> None:
    model = ("--model", tiny_language_model)
    asked = ("profile", "--formats", "iq3_xxs,q4_1", *model, "--text", corpus, *LANGUAGE)
    done = bitalloc(*asked, "--moments", "moments.safetensors", "--out", "profile.json")
    assert done.code == 0, done.err
    profile = load_profile(Path("profile.json"))
    # Rows of 64 and 96 become iq4_nl, but the type that was asked for still decides what is needed.
    layers = [row.name for row in profile.layers if "embed" not in row.name]
    Path("plan.json").write_text(json.dumps(dict.fromkeys(layers, "iq3_xxs")))
    arguments = ("apply", "plan.json", *GGUF, *model)
    refused = bitalloc(*arguments)
    assert (refused.code, refused.err.count("give moments")) == (2, len(layers))
    done = bitalloc(*arguments, "--moments", "moments.safetensors")
    assert done.code == 0, done.err
    assert bitalloc("profile", "--moments", "x", "--out", "y.json").code == 2


def test_onnx_runtime_runs_the_encoder(bitalloc: Run, tiny_encoder: Path) -> None:
    model = ("--model", tiny_encoder)
    plan = planned(
        bitalloc, "6", "fisher", "--for", "onnxruntime", *model, "--count", "8", "--tables", "fisher"
    )
    assert set(plan.values()) <= {"int2-g64", "int4-g64", "int8-g64", "fp16"}
    done = bitalloc("apply", "plan.json", *model, "--profile", "profile.json")
    assert done.code == 0, done.err
    encoder, tokenizer = load_text_encoder(tiny_encoder)
    batch = tokenizer(["one", "another text"])
    with torch.no_grad():
        cosines = (onnx_encoder(Path("model.onnx"))(batch) * encoder(**batch)).sum(1)
    assert bool((cosines > 0.9).all())


def test_torchao_runs_the_language_model(bitalloc: Run, tiny_language_model: Path, corpus: Path) -> None:
    model = ("--model", tiny_language_model)
    plan = planned(bitalloc, "6", "weight_error", "--for", "torchao", *model, "--text", corpus, *LANGUAGE)
    loaded, _ = load_language_model(tiny_language_model)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert bool(apply(loaded, plan, "torchao")(tokens).logits.isfinite().all())


def test_the_head_of_gpt_neox_is_planned_and_loads(bitalloc: Run, corpus: Path, tmp_path: Path) -> None:
    """Its embedding is `embed_in` and its head `embed_out`, which is no embedding."""
    from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM

    from tests.api.cli.conftest import _add_tokenizer

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
    config = GPTNeoXConfig(vocab_size=30522, tie_word_embeddings=False, **sizes)
    folder = tmp_path / "neox"
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    _add_tokenizer(folder)
    model = ("--model", folder)
    plan = planned(bitalloc, "6", "weight_error", "--for", "vllm", *model, "--text", corpus, *LANGUAGE)
    assert "embed_out" in plan
    assert "gpt_neox.embed_in" not in plan
    writing = ("--backend", "compressed-tensors", *model, "--profile", "profile.json", "--out", "packed")
    done = bitalloc("apply", "plan.json", *writing)
    assert done.code == 0, done.err
    packed = AutoModelForCausalLM.from_pretrained("packed", dtype=torch.float32)
    original, _ = load_language_model(folder)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        before, after = original(tokens).logits, packed(tokens).logits
    assert plan["embed_out"] != "fp16"
    assert float((before - after).abs().max()) < 0.2 * float(before.abs().max())
    exported = bitalloc("export", "plan.json", "--to", "compressed-tensors", *model, "--out", "export")
    assert exported.code == 0, exported.err
