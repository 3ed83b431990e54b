"""The command as a process of its own: bad input, closed pipes, other encodings, full disks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from api.cli import app
from tests.api.helpers import tiny

#: Arguments, and what the message has to say: what was expected or came, and what to do.
BAD = {
    "demo": (["--pairs", "3"], ["Invalid value for '--pairs'", "greater than or equal to 40"]),
    "profile": (
        ["--model", "nowhere", "--out", "new.json"],
        ["/model: expected a folder with config.json", "got 'nowhere'"],
    ),
    "solve": (["profile.json", "-b", "weight_byte=5 kB"], ["'weight_byte'", "did you mean 'weight_bytes'"]),
    "frontier": (["profile.json", "--plot", "a.gif"], ["expected a name that ends in .png", "got 'a.gif'"]),
    "refine": (["profile.json"], ["--model: say which model with --model FOLDER"]),
    "verify": (
        ["broken.json", "--profile", "profile.json", "-o", "kl"],
        ["expected an allocation or a table of layer and format, as JSON", "'broken.json' is no JSON"],
    ),
    "explain": (["profile.json", "--layer", "dwon"], ["unknown layer or glob 'dwon'", "did you mean 'down'"]),
    "apply": (
        ["table.json", "--backend", "ggml"],
        ["--backend: unknown file backend 'ggml'", "known:", "'gguf'"],
    ),
    "export": (["table.json", "--to", "torcho"], ["unknown target 'torcho'", "did you mean 'torchao'"]),
    "import": (["nowhere.csv", "--from", "csv", "--out", "new.json"], ["cannot read", "nowhere.csv"]),
    "lint": (["table.json", "-r", "vlm"], ["unknown runtime 'vlm'", "did you mean 'vllm'"]),
    "serve": (["--port", "70000"], ["Invalid value for '--port'", "less than or equal to 65535"]),
    "keys": (["revoke", "nobody"], ["nobody"]),
}
SOLVE = ["solve", "profile.json", "-b", "weight_bytes=7000"]
PLAIN = {"PYTHONIOENCODING": "ascii"}


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str


def _start(folder: Path, arguments: list[str], shell: str = "", **more: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "COLUMNS": "80", **more}
    environment.pop("PYTHONUTF8", None)
    command = [sys.executable, "-m", "bitalloc", *arguments]
    if shell:
        command = ["bash", "-c", f'"$@" {shell}', "-", *command]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=environment, **streams)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Mapping[str, Ended]:
    """All processes, started at once: most of what they take is the imports."""
    del data_dir
    folder = tmp_path_factory.mktemp("processes")
    names = ["größe[attn]", "down"]
    profile = tiny(layers=[{"name": name, "parameters": 1000} for name in names])
    (folder / "profile.json").write_text(json.dumps(profile, ensure_ascii=False), encoding="utf-8")
    (folder / "table.json").write_text(json.dumps({"up": "int4"}))
    (folder / "broken.json").write_text('{"assignment": ')
    jobs = {name: _start(folder, [name, *arguments]) for name, (arguments, _) in BAD.items()}
    jobs |= {
        "ascii": _start(folder, SOLVE, **PLAIN),
        "ascii json": _start(folder, [*SOLVE, "--json"], **PLAIN),
        "latin-1": _start(folder, SOLVE, PYTHONIOENCODING="latin-1"),
        "narrow": _start(folder, SOLVE, COLUMNS="12"),
        "head": _start(folder, [*SOLVE, "--json"], "| (sleep 0; exit 0); exit ${PIPESTATUS[0]}"),
        "head help": _start(folder, ["--help"], "| (exit 0); exit ${PIPESTATUS[0]}"),
        "full": _start(folder, SOLVE, "> /dev/full"),
        "closed": _start(folder, SOLVE, ">&-"),
    }
    found = {}
    for name, job in jobs.items():
        out, err = job.communicate(timeout=300)
        found[name] = Ended(job.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
    return found


def test_every_subcommand_is_tried() -> None:
    assert set(BAD) == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_message_and_2(ended: Mapping[str, Ended], name: str) -> None:
    found = ended[name]
    assert (found.code, found.out) == (2, ""), found
    assert "Traceback" not in found.err
    said = " ".join(found.err.replace("│", " ").split())
    assert all(words in said for words in BAD[name][1]), found.err


@pytest.mark.parametrize("name", ["ascii", "latin-1"])
def test_a_terminal_without_the_characters_gets_others(ended: Mapping[str, Ended], name: str) -> None:
    found = ended[name]
    assert (found.code, found.err) == (0, "")
    assert "x worse than this plan" in found.out or "× worse" not in found.out
    assert ("gr\\xf6\\xdfe[attn]" if name == "ascii" else "[attn]") in found.out


def test_json_stays_json_in_any_encoding(ended: Mapping[str, Ended]) -> None:
    found = ended["ascii json"]
    assert (found.code, found.err) == (0, "")
    assert found.out.isascii()
    assert set(json.loads(found.out)["assignment"]) == {"größe[attn]", "down"}


def test_names_are_whole_in_a_narrow_terminal(ended: Mapping[str, Ended]) -> None:
    rows = [line.split() for line in ended["narrow"].out.splitlines()[-2:]]
    assert [row[0] for row in rows] == ["größe[attn]", "down"]
    assert "…" not in ended["narrow"].out


@pytest.mark.parametrize("name", ["head", "head help"])
def test_a_reader_that_goes_away_is_no_news(ended: Mapping[str, Ended], name: str) -> None:
    assert (ended[name].code, ended[name].err) == (141, "")


def test_a_full_disk_is_no_crash(ended: Mapping[str, Ended]) -> None:
    assert ended["full"].code == 2
    assert ended["full"].err == "error: cannot write all of it: No space left on device\n"


def test_without_standard_output_the_exit_code_remains(ended: Mapping[str, Ended]) -> None:
    assert (ended["closed"].code, ended["closed"].err) == (0, "")
