"""`bitalloc import`: other tools' scores, planned with at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from allocator import load_profile
from tests.api.conftest import Run

TABLE = "layer,format,cost,bytes\nup,int4-g64,3,10\nup,int8,1,20\ndown,int4-g64,5,10\ndown,int8,1,20\n"


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text(TABLE)
    return path


def test_scores_become_a_profile_that_is_solved(bitalloc: Run, scores: Path) -> None:
    done = bitalloc("import", scores, "--from", "csv", "--name", "mine", "--out", "new/profile.json")
    assert (done.code, done.out, done.err) == (0, "2 layers, 2 formats → new/profile.json\n", "")
    profile = load_profile(Path("new/profile.json"))
    assert profile.model == "mine"
    done = bitalloc("solve", "new/profile.json", "-b", "weight_bytes=30", "--json")
    assert json.loads(done.out)["assignment"] == {"up": "int4-g64", "down": "int8"}


def test_several_files_and_json(bitalloc: Run, tmp_path: Path) -> None:
    for bits in (4, 8):
        document = {
            "version": 1,
            "scheme": {"bits": bits, "group_size": 64},
            "layer_scores": {"up": [bits * 100, 1 / bits]},
        }
        (tmp_path / f"scheme_{bits}.json").write_text(json.dumps(document))
    done = bitalloc("import", "scheme_4.json", "scheme_8.json", "--from", "auto-round", "--json")
    assert (done.code, done.err) == (0, "")
    digest = load_profile(Path("profile.json")).digest()
    assert json.loads(done.out) == {
        "path": "profile.json", "layers": 1, "formats": ["int4-g64", "int8-g64"], "sha256": digest,
    }  # fmt: skip


def test_formats_and_model_reach_the_reader(bitalloc: Run, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"up.weight": torch.zeros(64, 64)}, tmp_path / "model.safetensors")
    (tmp_path / "s.json").write_text('[["up", 2.0]]')
    done = bitalloc(
        "import", "s.json", "--from", "mlx", "--formats", "uint4-g64, uint8-g64", "--model", tmp_path
    )
    assert (done.code, done.err) == (0, "")
    assert list(load_profile(Path("profile.json")).formats) == ["uint4-g64", "uint8-g64"]


@pytest.mark.parametrize(
    ("text", "source", "words"),
    [
        ("layer,format,cost,bytes\nup,q9,1,1\n", "csv", "error: /scores.csv: line 2: unknown format 'q9'"),
        (TABLE, "cvs", "error: /source: unknown source 'cvs'; did you mean 'csv'?"),
        (TABLE, "mlx", "error: /formats: expected the low and the high format"),
        (TABLE, "exllamav2", "error: /scores.csv.json: expected JSON"),
    ],
)
def test_what_cannot_be_read_ends_with_2(
    bitalloc: Run, scores: Path, text: str, source: str, words: str
) -> None:
    scores.write_text(text)
    done = bitalloc("import", scores, "--from", source)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(words)
    assert not Path("profile.json").exists()


def test_a_profile_that_exists_is_kept_unless_forced(bitalloc: Run, scores: Path) -> None:
    Path("profile.json").write_text("mine")
    done = bitalloc("import", scores, "--from", "csv")
    assert (done.code, done.err) == (
        2,
        "error: --out: 'profile.json' exists; choose another name, or replace it with --force\n",
    )
    assert Path("profile.json").read_text() == "mine"
    assert bitalloc("import", scores, "--from", "csv", "--force").code == 0
    assert len(load_profile(Path("profile.json")).layers) == 2
