"""A language model, from its checkpoint to a plan that a server reads: profile, solve, refine, verify, apply, lint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
    covered = "note: 99.9 % of the weights are planned; 768 B are outside (norm)"
    assert (done.code, done.out) == (0, f"9 layers → {path}\n{covered}\n")
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
    assert sum(len(group["targets"]) for group in groups.values()) == len(named) == 9


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
