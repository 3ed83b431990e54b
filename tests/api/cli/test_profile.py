"""`bitalloc profile` on a real model, and what it says about files of pairs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from allocator import Allocation, InvalidInputError, load_profile
from api.cli.calibration import read_pairs
from tests.api.conftest import Run

MINILM = ("--model", "all-MiniLM-L6-v2")
QUICK = ("--count", "8", "--tables", "fisher", "--formats", "int4-g64, int8-g64")
PAIRS = [
    (f"What does function {i} return?", f"It returns {i} things, all of them different.") for i in range(6)
]


def _lines(pairs: list[tuple[str, str]]) -> str:
    return "".join(json.dumps({"query": query, "document": document}) + "\n" for query, document in pairs)


def test_a_real_model_is_profiled_and_its_profile_solved(bitalloc: Run) -> None:
    done = bitalloc("profile", *MINILM, *QUICK, "--seed", "3", "--out", "new/profile.json")
    assert (done.code, done.out) == (
        0,
        "37 layers → new/profile.json\n"
        "note: 98 % of the weights are planned; 912 kB are outside (left out of the rows that were asked for, bias, "
        "norm)\n",
    )
    assert done.err.startswith("fisher: 1 of 1, ")
    profile = load_profile(Path("new/profile.json"))
    assert profile.model == "all-MiniLM-L6-v2"
    assert list(profile.formats) == ["int4-g64", "int8-g64"]
    assert list(profile.costs) == ["fisher"]
    assert "weight_bytes" in profile.resources
    assert profile.provenance.seed == 3

    done = bitalloc("solve", "new/profile.json", "-b", "effective_bits=5", "--json")
    assert done.code == 0
    plan = Allocation.model_validate_json(done.out)
    assert plan.status == "optimal"
    assert plan.profile_sha256 == profile.digest()
    assert plan.assignment is not None
    assert set(plan.assignment.values()) == {"int4-g64", "int8-g64"}


def test_a_model_and_pairs_of_ones_own_are_profiled(bitalloc: Run, tiny_encoder: Path) -> None:
    Path("pairs.jsonl").write_text(_lines(PAIRS))
    done = bitalloc("profile", "--model", tiny_encoder, "--pairs", "pairs.jsonl", *QUICK, "--json")
    assert (done.code, done.err) == (0, "")
    profile = load_profile(Path("profile.json"))
    assert json.loads(done.out) == {
        "path": "profile.json",
        "layers": len(profile.layers),
        "sha256": profile.digest(),
    }
    assert profile.model == "tiny-encoder"
    assert "encoder.layer.0.attention.self.query" in [layer.name for layer in profile.layers]


def test_the_same_seed_and_pairs_give_the_same_profile(bitalloc: Run, tiny_encoder: Path) -> None:
    Path("pairs.jsonl").write_text(_lines(PAIRS))
    arguments = ("profile", "--model", tiny_encoder, "--pairs", "pairs.jsonl", *QUICK, "--json", "--force")
    first, second = (json.loads(bitalloc(*arguments).out)["sha256"] for _ in range(2))
    assert first == second


def test_a_journal_remembers_measurements_and_another_run_is_refused(
    bitalloc: Run, tiny_encoder: Path
) -> None:
    Path("pairs.jsonl").write_text(_lines(PAIRS))
    tables = ("--tables", "embedding_distance", "--formats", "int4-g64", "--json", "--force")
    arguments = (
        "profile",
        "--model",
        tiny_encoder,
        "--pairs",
        "pairs.jsonl",
        "--journal",
        "run.journal",
        *tables,
    )
    first = bitalloc(*arguments)
    written = Path("run.journal").read_bytes()
    assert written.count(b"\n") == 1 + json.loads(first.out)["layers"]
    assert bitalloc(*arguments).out == first.out
    assert Path("run.journal").read_bytes() == written
    refused = bitalloc(*arguments, "--seed", "1")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: /journal: 'run.journal' belongs to another run")
    assert "seed is 0, not 1" in refused.err


def test_no_more_pairs_are_used_than_asked_for(bitalloc: Run, tiny_encoder: Path) -> None:
    hashes = []
    for count in (4, 6):
        Path("pairs.jsonl").write_text(_lines(PAIRS[:count]))
        options = (
            "--pairs",
            "pairs.jsonl",
            "--tables",
            "fisher",
            "--formats",
            "int4-g64",
            "--count",
            "4",
            "--force",
        )
        assert bitalloc("profile", "--model", tiny_encoder, *options).code == 0
        hashes.append(load_profile(Path("profile.json")).provenance.data_sha256)
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tables", "fishr"), "/tables: unknown table 'fishr'; did you mean 'fisher'"),
        (("--formats", "int4-g64,int99"), "/formats: unknown format 'int99'"),
        (
            ("--model", "nowhere"),
            "/model: expected a folder with config.json, weights and tokenizer, got 'nowhere'",
        ),
        (("--pairs", "nowhere.jsonl"), "--pairs: cannot read 'nowhere.jsonl'"),
    ],
)
def test_what_cannot_be_profiled_ends_with_2_and_writes_nothing(
    bitalloc: Run, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = bitalloc("profile", *MINILM, *QUICK, *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {words}")
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), [("--count", "1"), ("--probes", "0"), ("--seed", "dice")])
def test_numbers_out_of_range_end_with_2(bitalloc: Run, option: str, value: str) -> None:
    done = bitalloc("profile", option, value)
    assert (done.code, done.out) == (2, "")
    assert f"Invalid value for '{option}'" in done.err


def test_too_few_pairs_end_with_2(bitalloc: Run) -> None:
    Path("pairs.jsonl").write_text(_lines(PAIRS[:1]))
    done = bitalloc("profile", *MINILM, "--pairs", "pairs.jsonl", *QUICK)
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: /pairs: expected at least 2 (query, document) pairs, got 1\n"


def test_without_torch_it_says_what_to_install(bitalloc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    done = bitalloc("profile")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: torch is needed here and cannot be imported")
    assert done.err.endswith("pip install 'bitalloc[models]'\n")


@pytest.fixture
def pairs_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(content: str) -> Path:
        path = tmp_path / "pairs.jsonl"
        path.write_text(content, encoding="utf-8")
        return path

    return write


def test_pairs_are_read_and_blank_lines_skipped(pairs_file: Callable[[str], Path]) -> None:
    text = _lines(PAIRS[:2]) + "\n   \n" + '{"query": "größer?", "document": "ja", "id": 7}\n'
    assert read_pairs(pairs_file(text)) == [*PAIRS[:2], ("größer?", "ja")]


@pytest.mark.parametrize(
    "line",
    ['{"query": "a"}', '["a", "b"]', "a\tb", '"query document"', "17", '{"query": "a", "document": "b"'],
)
def test_a_line_that_is_no_pair_is_named_by_its_number(pairs_file: Callable[[str], Path], line: str) -> None:
    path = pairs_file(_lines(PAIRS[:2]) + "\n" + line + "\n" + _lines(PAIRS[2:]))
    with pytest.raises(InvalidInputError, match=r"^--pairs: line 4: expected {\"query\"") as refusal:
        read_pairs(path)
    assert repr(line) in str(refusal.value)


def test_a_long_line_that_is_no_pair_is_shortened(pairs_file: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidInputError, match=r"line 1: expected .*, got 'x{60}'$"):
        read_pairs(pairs_file("x" * 1000))


@pytest.mark.parametrize("entry", [{"query": 1, "document": "b"}, {"query": "a", "document": ["b"]}])
def test_a_pair_of_other_things_than_texts_is_refused(
    pairs_file: Callable[[str], Path], entry: dict[str, object]
) -> None:
    with pytest.raises(InvalidInputError, match=r"^--pairs: line 1: query and document must be texts$"):
        read_pairs(pairs_file(json.dumps(entry)))


def test_a_file_of_pairs_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^--pairs: cannot read .*No such file"):
        read_pairs(tmp_path / "missing.jsonl")
    with pytest.raises(InvalidInputError, match=r"^--pairs: cannot read .*Is a directory"):
        read_pairs(tmp_path)
    (tmp_path / "latin1.jsonl").write_bytes("größer".encode("latin1"))
    with pytest.raises(InvalidInputError, match=r"^--pairs: cannot read .*can't decode"):
        read_pairs(tmp_path / "latin1.jsonl")


@pytest.mark.parametrize("inside", ["\u2028", "\x85"])
def test_a_text_may_hold_what_only_python_calls_a_line_break(
    pairs_file: Callable[[str], Path], inside: str
) -> None:
    text = json.dumps({"query": f"a{inside}b", "document": "c"}, ensure_ascii=False)
    assert read_pairs(pairs_file(text + "\n")) == [(f"a{inside}b", "c")]


def test_a_broken_line_ends_the_command_with_2_and_its_number(bitalloc: Run, tmp_path: Path) -> None:
    Path("pairs.jsonl").write_text(_lines(PAIRS[:3]) + "not a pair\n")
    done = bitalloc("profile", *MINILM, "--pairs", "pairs.jsonl", *QUICK)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: --pairs: line 4: expected ")
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]
