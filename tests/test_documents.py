"""The README and the other documents are true: their commands run, their examples are valid."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from allocator import Limit, Request, load_profile
from allocator.schema import Strict
from api.server import running_server

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PORT_IN_README = "http://127.0.0.1:8000"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def shell(script: str, folder: Path) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def test_the_command_lines_run(folder: Path) -> None:
    (script,) = [block for block in blocks(README, "bash") if "bitalloc solve" in block]
    output = shell(script, folder)
    assert output.count("optimal") >= 2
    plan = json.loads((folder / "out" / "plan.json").read_text())
    assert plan["assignment"]["backbone.embeddings.word_embeddings"] == "int4-g64"
    assert plan["usage"]["weight_bytes"]["used"] <= 10e6


def test_the_http_call_runs_against_the_service(folder: Path) -> None:
    (script,) = [block for block in blocks(README, "bash") if "curl" in block]
    assert script.startswith("bitalloc serve &\n")
    with running_server() as url:
        answer = json.loads(
            shell(script.removeprefix("bitalloc serve &\n").replace(PORT_IN_README, url), folder)
        )
    assert answer["status"] == "optimal"
    assert answer["assignment"] == {"up": "int8-g64", "down": "int4-g64"}


def test_the_python_calls_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    with running_server() as url:
        exec("\n".join(blocks(README, "python")).replace(PORT_IN_README, url), {})
    assert "optimal" in capsys.readouterr().out


def test_the_planning_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    page = (ROOT / "docs" / "planning.md").read_text("utf-8")
    exec("\n".join(blocks(page, "python")), {})


def test_the_service_page_runs() -> None:
    page = (ROOT / "docs" / "service.md").read_text("utf-8")
    with running_server() as url:
        exec("\n".join(blocks(page, "python")).replace(PORT_IN_README, url), {})


def test_every_make_target_in_the_documents_exists() -> None:
    text = README + (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for target in set(re.findall(r"`?\bmake ([a-z-]+)`?", text)) - {"it"}:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_relative_links_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text("utf-8")):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_profile_page_shows_a_valid_profile_and_names_every_field() -> None:
    page = (ROOT / "docs" / "profile.md").read_text("utf-8")
    (example,) = blocks(page, "json")
    profile = load_profile(example)

    def fields(model: type[Strict]) -> set[str]:
        return set(model.model_fields)

    models = (type(profile), type(profile.layers[0]), type(profile.fusions[0]), Request, Limit)
    for name in set().union(*map(fields, models)):
        assert name in page, name


def test_the_example_profile_is_complete() -> None:
    profile = load_profile(ROOT / "examples" / "minilm.json")
    assert len(profile.layers) == 37
    assert set(profile.costs) == {"hessian_trace", "fisher", "embedding_distance"}
    assert all(table.stderr is not None for table in profile.costs.values())
