"""Every page that teaches by example runs as it stands, and leaves behind what it promises."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from allocator import Allocation, load_profile
from api.cli.plans import read_allocation
from quantize.exports import read, read_files
from sensitivity.pretrained.docstrings import docstring_pairs
from sensitivity.pretrained.text_encoder import minilm_folder
from tests.sensitivity.llamas import write_llama
from tests.test_documents import ROOT, blocks, run_page, shell

HOW_TO = ROOT / "docs" / "how-to"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples; pages run in it."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def llama(folder: Path) -> Path:
    """The checkpoint, its tokenizer of letters, the texts and the token ids that pages name."""
    sizes = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 128}
    write_llama(folder / "llama", num_hidden_layers=2, shard="1GB", **sizes)
    np.save(folder / "tokens.npy", np.random.default_rng(0).integers(0, 96, (4, 12)))
    letters = {chr(code): code - 32 for code in range(32, 127)} | {"\n": 95}
    whole = Tokenizer(WordLevel(letters, unk_token=" "))
    whole.pre_tokenizer = Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=whole).save_pretrained(folder / "llama")
    texts = [document for _, document in docstring_pairs(60)]
    (folder / "corpus.txt").write_text("\n".join(texts[::2]))
    (folder / "held_out.txt").write_text("\n".join(texts[1::2]))
    return folder


def plan(path: Path) -> Allocation:
    return Allocation.model_validate_json(path.read_text())


def test_every_page_is_tested_here() -> None:
    named = Path(__file__).read_text("utf-8")
    assert [page.name for page in HOW_TO.glob("*.md") if page.name not in named] == []


def test_start_here(folder: Path) -> None:
    run_page("docs/start.md", folder)
    assert plan(folder / "plan.json").status == "optimal"


def test_planning(folder: Path) -> None:
    assert run_page("docs/planning.md", folder)["front"].exact


def test_import_scores(folder: Path) -> None:
    run_page("docs/how-to/import_scores.md", folder)
    assert load_profile(folder / "imported.json").costs["cost"].values == ((0.031, 0.0004), (0.087, 0.0009))
    rounds = load_profile(folder / "delta_loss.json")
    assert list(rounds.formats) == ["int4-g128", "int8-g128"]


def test_serve_a_team(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    names = run_page("docs/how-to/serve_a_team.md", folder, {"8000": port})
    from_shell = read_allocation(folder / "answer.json")
    assert from_shell.assignment == names["plan"].assignment


@pytest.mark.long
def test_pin_lm_head_after_larger_than_memory(llama: Path) -> None:
    run_page("docs/how-to/larger_than_memory.md", llama)
    assert list(load_profile(llama / "profile.json").costs) == ["zd", "rounding_error", "output_mse"]
    assert list((llama / "spilled").iterdir()) == []
    names = run_page("docs/how-to/pin_lm_head.md", llama)
    pinned = plan(llama / "pinned.json")
    assert pinned.assignment == names["pinned"].assignment
    assert pinned.assignment is not None
    assert pinned.assignment["lm_head"] == "int8-g64"
    wide = plan(llama / "wide.json").assignment
    assert wide is not None
    assert wide["lm_head"] == "int8-g64"


@pytest.mark.long
def test_plan_an_llm(llama: Path) -> None:
    # For a model this small, a card on which caches of eight bits leave room for some weights of sixteen.
    run_page("docs/how-to/plan_an_llm.md", llama, {"21 GiB": "17.6 MB"})
    profile = load_profile(llama / "llm.json")
    caches = {row.name for row in profile.layers if row.kind == "kv_cache"}
    assert plan(llama / "refined.json").solver.name == "refine"
    assert (llama / "packed" / "model.safetensors").exists()
    made = plan(llama / "plan.json")
    assert made.status == "optimal"
    assert made.assignment is not None
    assert {made.assignment[name] for name in caches} == {"int8-g64"}
    assert len({kind for name, kind in made.assignment.items() if name not in caches}) > 1
    weights = json.loads((llama / "weights.json").read_text())
    files = read_files("compressed-tensors", llama / "export")
    read_back = read("compressed-tensors", files, layers=list(weights)).assignment
    assert read_back == weights
    assert (llama / "memory.png").stat().st_size > 10_000


@pytest.mark.long
def test_meet_a_latency(folder: Path) -> None:
    names = run_page("docs/how-to/meet_a_latency.md", folder)
    assert names["fastest"].objective <= names["budget_us"] <= names["needs_us"] * (1 + 1e-9)
    assert (folder / "model.onnx").stat().st_size > 10e6


@pytest.mark.long
@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_a_strangers_own_plan(folder: Path, page: str) -> None:
    (script,) = [
        block for block in blocks((ROOT / page).read_text("utf-8"), "console") if "pairs.jsonl" in block
    ]
    (folder / "my-encoder").symlink_to(minilm_folder())
    pairs = [json.dumps({"query": query, "document": text}) for query, text in docstring_pairs(6)]
    (folder / "pairs.jsonl").write_text("\n".join(pairs))
    shell(script.replace(".venv/bin/", ""), folder)
    name = "encoder_plan.json" if "encoder_plan.json" in script else "plan.json"
    assert plan(folder / name).status == "optimal"
    assert 10e6 < (folder / "model.onnx").stat().st_size < 20e6


@pytest.fixture
def scale_out(folder: Path) -> Path:
    """The files of the page about scaling out, without its commands."""
    for block in blocks((HOW_TO / "scale_out.md").read_text("utf-8"), "python"):
        (folder / block.partition("\n")[0].removeprefix("# ")).write_text(block)
    return folder


JOURNAL, LOCAL, CLUSTERS = blocks((HOW_TO / "scale_out.md").read_text("utf-8"), "bash")


@pytest.mark.long
def test_scale_out_on_processes(scale_out: Path) -> None:
    serial, process = shell(LOCAL, scale_out).split()
    assert serial == process
    assert len(serial) == 64
    journals = [
        sorted((scale_out / f"{name}.journal").read_bytes().splitlines()) for name in ("serial", "process")
    ]
    assert journals[0] == journals[1]  # workers finish in any order


@pytest.mark.long
def test_scale_out_on_clusters(scale_out: Path) -> None:
    serial = shell(LOCAL.splitlines()[0], scale_out)
    assert shell(CLUSTERS, scale_out) == 2 * serial


@pytest.mark.long
def test_a_run_goes_on_from_its_journal(scale_out: Path) -> None:
    shell(JOURNAL, scale_out)
    first, written = (scale_out / "profile.json").read_bytes(), (scale_out / "run.journal").read_bytes()
    (scale_out / "profile.json").unlink()  # as where it was killed before
    shell(JOURNAL, scale_out)
    assert (scale_out / "profile.json").read_bytes() == first
    assert (scale_out / "run.journal").read_bytes() == written


@pytest.mark.long
def test_a_function_can_watch(scale_out: Path) -> None:
    assert shell("python notebook.py", scale_out) == "1.0\n"
