"""Tables are whole at any width and in any encoding: a name that is cut no longer says which layer it is."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from api.cli.terminal import open_streams, print_json, print_table
from tests.api.cli.profile_files import written
from tests.api.conftest import Run
from tests.api.helpers import tiny

LAYERS = [f"model.layers.{at}.block_sparse_moe.experts.{at}.down_projection" for at in (10, 11)]
TABLE = "mean_divergence_of_the_next_token"


@pytest.fixture
def long_names(tmp_path: Path) -> Path:
    document = tiny(layers=[{"name": name, "parameters": 1000} for name in LAYERS])
    document["costs"] = {TABLE: document["costs"]["kl"]}
    return written(tmp_path, document)


@pytest.mark.parametrize("columns", ["8", "40"])
@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        (("solve",), LAYERS),
        (("explain", "--layer", "*"), [*LAYERS, TABLE, "best plan with it", "chosen"]),
        (("frontier", "--points", "2"), ["weight_bytes, at most", TABLE, "8,448", "optimal"]),
    ],
)
def test_nothing_is_cut(
    bitalloc: Run,
    monkeypatch: pytest.MonkeyPatch,
    long_names: Path,
    columns: str,
    arguments: tuple[str, ...],
    whole: list[str],
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    done = bitalloc(arguments[0], long_names, *arguments[1:])
    assert (done.code, done.err) == (0, "")
    assert "…" not in done.out
    for words in whole:
        assert any(words in line for line in done.out.splitlines()), words


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    console = Console(file=io.StringIO(), width=10, soft_wrap=True)
    print_table(console, ("name", "bytes"), [("ä", "1"), ("層", "1,000"), ("[a]", "20")], right=("bytes",))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "name  bytes",
        "ä         1",
        "層    1,000",
        "[a]      20",
    ]


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "2 x, 1 -> 2, \\u5c64"), ("latin-1", "2 ×, 1 -> 2, \\u5c64")]
)
def test_what_an_encoding_lacks_is_written_in_ascii(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shown: str
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    open_streams()
    sys.stdout.write("2 ×, 1 → 2, 層")
    sys.stdout.flush()
    assert raw.getvalue().decode(encoding) == shown


def test_json_keeps_its_texts_in_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    print_json('{"層": "𝛼 × \\\\n"}')
    sys.stdout.flush()
    assert json.loads(raw.getvalue()) == {"層": "𝛼 × \\n"}
