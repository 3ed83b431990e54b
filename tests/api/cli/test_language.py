"""A language model, from its checkpoint to a plan that a server reads: profile, solve, refine, verify, apply, lint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from allocator import Allocation, load_profile
from tests.api.conftest import Run


@pytest.fixture
def measuring(tiny_language_model: Path, corpus: Path) -> tuple[object, ...]:
    return ("--model", tiny_language_model, "--text", corpus, "--length", "16", "--count", "4")


@pytest.fixture
def profile(bitalloc: Run, measuring: tuple[object, ...], tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    formats = ("--formats", "int4-g32,int8-g32", "--units", "vllm")
    done = bitalloc("profile", *measuring, *formats, "--out", path)
    covered = "warning: only 50 % of the weights are planned; 7.81 MB are outside"
    covered += " (embeddings, which vllm keeps in floating point, norm)"
    largest = "the largest is 'model.embed_tokens.weight', 7.81 MB"  # vLLM keeps it as it is
    assert (done.code, done.out) == (0, f"8 layers → {path}\n{covered}; {largest}\n")
    return path


def test_a_language_model_is_profiled(profile: Path) -> None:
    found = load_profile(profile)
    assert found.model == "tiny-llama"
    assert list(found.costs) == ["gauss_newton_trace", "fisher", "kl"]
    units = {layer.name.rpartition(".")[2]: layer.unit for layer in found.layers}
    assert units["q_proj"] == units["k_proj"] == units["v_proj"] != units["o_proj"]
    assert units["gate_proj"] == units["up_proj"]
    assert all(row[0] > row[1] for row in found.costs["kl"].values)


def test_its_plan_is_refined_verified_and_applied(
    bitalloc: Run, profile: Path, measuring: tuple[object, ...], tiny_language_model: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    budget = ("-o", "kl", "-b", "effective_bits=6", "--max-evaluations", "6")
    done = bitalloc("refine", profile, *budget, *measuring, "--out", plan, "--json")
    assert (done.code, done.err) == (0, "")
    losses = json.loads(done.out)["losses"]
    assert 0 < losses["refined"] <= min(losses["start"], losses["uniform"], losses["greedy"])

    passed = bitalloc("verify", plan, "--profile", profile, "-o", "kl", *measuring, "--json")
    assert (passed.code, passed.err) == (0, "")
    assert json.loads(passed.out)["rows"][0]["loss"] == pytest.approx(losses["refined"], rel=1e-9)

    packed = tmp_path / "packed"
    made = bitalloc(
        "apply", plan, "--backend", "compressed-tensors", "--model", tiny_language_model, "--out", packed
    )
    assert made.code == 0, made.err
    named = set(Allocation.model_validate_json(plan.read_bytes()).assignment or ())
    groups = json.loads((packed / "config.json").read_text())["quantization_config"]["config_groups"]
    assert sum(len(group["targets"]) for group in groups.values()) == len(named) == 8


@pytest.mark.parametrize("option", [("--units", "vllm"), ("--for", "vllm"), ("--for", "transformers")])
def test_the_documented_flow_ends_with_a_checkpoint_that_loads_and_runs(
    bitalloc: Run,
    measuring: tuple[object, ...],
    tiny_language_model: Path,
    tmp_path: Path,
    option: tuple[str, str],
) -> None:
    from transformers import AutoModelForCausalLM

    profile, plan, packed = (tmp_path / name for name in ("profile.json", "plan.json", "packed"))
    tables = ("--tables", "weight_error")
    assert bitalloc("profile", *measuring, *option, *tables, "--out", profile).code == 0
    assert bitalloc("solve", profile, "-o", "weight_error", "-b", "effective_bits=6", "--out", plan).code == 0
    writing = ("--backend", "compressed-tensors", "--model", tiny_language_model, "--profile", profile)
    done = bitalloc("apply", plan, *writing, "--out", packed)
    assert done.code == 0, done.err
    loaded = AutoModelForCausalLM.from_pretrained(packed, dtype=torch.float16)
    tokens = torch.arange(12)[None] % loaded.config.vocab_size
    assert bool(torch.isfinite(loaded(tokens).logits).all())
    assert len(set((Allocation.model_validate_json(plan.read_bytes()).assignment or {}).values())) > 1


def test_a_profile_for_a_runtime_says_so_and_offers_only_what_it_loads(
    bitalloc: Run, measuring: tuple[object, ...], tmp_path: Path
) -> None:
    options = (*measuring, "--tables", "weight_error", "--force", "--out", tmp_path / "p.json")
    assert bitalloc("profile", *options, "--for", "vllm").code == 0
    found = load_profile(tmp_path / "p.json")
    assert list(found.formats) == ["int4-g32", "int4-g128", "int8", "fp16"]
    assert found.provenance is not None
    assert found.provenance.notes["/runtime"] == "vllm"
    assert "vllm: the runtime keeps embeddings" in found.provenance.notes["/layers/model.embed_tokens"]
    assert "model.embed_tokens" not in {row.name for row in found.layers}
    assert all(row.unit for row in found.layers if row.name.endswith(("q_proj", "k_proj", "v_proj")))
    # Rows of whole 128 have the second format, the others have not.
    values = zip(found.layers, found.costs["weight_error"].values, strict=True)
    fits = {row.name.rpartition(".")[2]: costs[1] is not None for row, costs in values}
    assert (fits["down_proj"], fits["q_proj"]) == (True, False)
    refused = bitalloc("profile", *options, "--for", "onnxruntime", "--formats", "int4-g512,fp16")
    assert refused.code == 2
    assert "--formats: int4-g512: the operator has groups of 16, 32, 64, 128 and 256 weights" in refused.err
    encoder = bitalloc("profile", "--for", "vllm")
    assert encoder.code == 2
    assert "--for: vllm serves language models; give --text too" in encoder.err
    unknown = bitalloc("profile", *options, "--for", "vlm")
    assert unknown.code == 2
    assert "/runtime: unknown runtime 'vlm'; did you mean 'vllm'" in unknown.err


def test_what_no_runtime_loads_is_refused_by_apply_and_export_unless_one_insists(
    bitalloc: Run, tiny_language_model: Path, tmp_path: Path
) -> None:
    from tests.api.cli.test_apply import _plan

    plan = _plan(tmp_path, **{"model.embed_tokens": "int4-g32"})
    for arguments, made in (
        (("apply", plan, "--backend", "compressed-tensors", "--out", tmp_path / "packed"), "packed"),
        (("export", plan, "--to", "compressed-tensors", "--out", tmp_path / "export"), "export"),
    ):
        done = bitalloc(*arguments, "--model", tiny_language_model)
        assert (done.code, done.out) == (2, "")
        assert (
            "/assignment/model.embed_tokens: vllm would not load it (nor does sglang, transform" in done.err
        )
        assert not (tmp_path / made).exists()
        forced = bitalloc(*arguments, "--model", tiny_language_model, "--force")
        assert forced.code == 0
        assert "vllm would not load it: model.embed_tokens: the runtime keeps embeddings" in forced.err


def test_one_runtime_can_be_asked_for(bitalloc: Run, tiny_language_model: Path, tmp_path: Path) -> None:
    from tests.api.cli.test_apply import _plan

    plan = _plan(tmp_path, **{"model.layers.0.mlp.down_proj": "int3-g32"})
    arguments = ("apply", plan, "--backend", "compressed-tensors", "--model", tiny_language_model)
    done = bitalloc(*arguments, "--runtime", "sglang", "--out", tmp_path / "packed")
    assert done.code == 2
    assert "sglang would not load it: integer weights have 4 or 8 bits there" in done.err
    other = bitalloc(*arguments, "--runtime", "llama.cpp", "--out", tmp_path / "packed")
    assert other.code == 2
    assert (
        "/runtime: 'llama.cpp' does not read compressed-tensors, which vllm, sglang, transformers"
        in other.err
    )
    any_of_them = bitalloc(*arguments, "--out", tmp_path / "packed")
    assert any_of_them.code == 0
    assert (
        "sglang would not load it: model.layers.0.mlp.down_proj: integer weights have 4 or 8"
        in any_of_them.err
    )
    assert "transformers" not in any_of_them.err
    alone = bitalloc("apply", plan, "--runtime", "vllm", "--model", tiny_language_model)
    assert "--runtime: is for files that several runtimes read; onnxruntime has one" in alone.err


def test_a_folder_with_the_model_twice_is_packed_once(
    bitalloc: Run, tiny_language_model: Path, tmp_path: Path
) -> None:
    """Mistral ships its shards once more as consolidated.safetensors, under other names."""
    from tests.api.cli.test_apply import _plan

    plan = _plan(tmp_path, **{"model.layers.0.mlp.down_proj": "int4-g32"})
    twice = tmp_path / "twice"
    shutil.copytree(tiny_language_model, twice)
    save_file({"layers.0.w2.weight": torch.zeros(64, 96)}, twice / "consolidated.safetensors")
    backends = (("compressed-tensors", "packed", ()), ("gguf", "model.gguf", ("--no-vocabulary",)))
    for backend, made, options in backends:
        done = bitalloc(
            "apply", plan, "--backend", backend, "--model", twice, "--out", tmp_path / made, *options
        )
        assert done.code == 0, done.err
        assert "ignored: consolidated.safetensors, which is not the model by model.safetensors" in done.err
    assert [path.name for path in (tmp_path / "packed").glob("*.safetensors")] == ["model.safetensors"]
    for command in (("lint", plan, "--runtime", "vllm"), ("export", plan, "--to", "compressed-tensors")):
        assert "ignored: consolidated.safetensors" in bitalloc(*command, "--model", twice).err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--text", "corpus.txt"), "--text: is for a causal language model; say which with --model"),
        (
            ("--text", "corpus.txt", "--model", "llama", "--pairs", "pairs.jsonl"),
            "--text: is for a language model and --pairs for an encoder; give one of them",
        ),
        (("--units", "vllm"), "--units: is for language models; give --text too"),
    ],
)
def test_options_that_do_not_go_together(bitalloc: Run, options: tuple[str, ...], words: str) -> None:
    done = bitalloc("profile", *options)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_texts_and_folders_that_cannot_be_read(
    bitalloc: Run, tiny_language_model: Path, corpus: Path, tmp_path: Path
) -> None:
    missing = bitalloc("profile", "--model", tiny_language_model, "--text", tmp_path / "nowhere.txt")
    assert missing.code == 2
    assert "--text: cannot read" in missing.err
    short = tmp_path / "short.txt"
    short.write_text("Too short.")
    few = bitalloc("profile", "--model", tiny_language_model, "--text", short)
    assert few.code == 2
    assert "/text: expected a text of at least 128 tokens, one window, got 3" in few.err
    nowhere = bitalloc("profile", "--model", tmp_path / "nowhere", "--text", corpus)
    assert nowhere.code == 2
    assert "/model: expected a folder with config.json" in nowhere.err
    table = bitalloc("profile", "--model", tiny_language_model, "--text", corpus, "--tables", "fishr")
    assert table.code == 2
    assert "/tables: unknown table 'fishr'; did you mean 'fisher'" in table.err
