"""The README and the other documents are true: their commands run, their examples are valid."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from allocator import Limit, Request, load_profile
from allocator.contract.schema import Strict
from api.server import running_server

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PORT_IN_README = "http://127.0.0.1:8000"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def shell(script: str, folder: Path) -> str:
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def in_background(script: str, folder: Path) -> Iterator[None]:
    """A block that ends in ``&``: a service, which is stopped with all its children at the end."""
    command = ["bash", "-euc", script.rstrip().removesuffix("&")]
    (port,) = re.findall(r"--port (\d+)", script)
    mine = environment() | {"BITALLOC_DATA_DIR": str(folder / "data")}
    running = subprocess.Popen(command, cwd=folder, env=mine, start_new_session=True)
    try:
        transport = httpx2.HTTPTransport(retries=8)  # waits 0.5, 1, 2, … seconds between attempts
        with httpx2.Client(transport=transport, timeout=30) as client:
            assert client.get(f"http://127.0.0.1:{port}/healthz").is_success
        yield
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(timeout=30)


def run_page(page: str, folder: Path, changes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a page of the documentation from top to bottom, in the current folder.

    ``bash`` blocks are run, ``python`` blocks that begin with the name of a file are written there, all others share
    one namespace, which is returned. Blocks in any other language (``console``: what a test cannot or should not do)
    are left alone.
    """
    text = (ROOT / page).read_text("utf-8")
    for old, new in (changes or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    names: dict[str, Any] = {}
    with ExitStack() as stack:
        for language, block in re.findall(
            r"^```(bash|python)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL
        ):
            file = re.match(r"# (\w+\.py)\n", block)
            if language == "bash" and block.rstrip().endswith("&"):
                stack.enter_context(in_background(block, folder))
            elif language == "bash":
                shell(block, folder)
            elif file:
                (folder / file[1]).write_text(block)
            else:
                exec(block, names)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def test_the_command_lines_run(folder: Path) -> None:
    (script,) = [block for block in blocks(README, "bash") if "bitalloc solve" in block]
    output = shell(script, folder)
    assert output.count("optimal") >= 2
    plan = json.loads((folder / "out" / "plan.json").read_text())
    assert plan["assignment"]["embeddings.word_embeddings"] == "int4-g64"
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
    said = capsys.readouterr().out
    assert said.startswith(blocks(README, "text")[0])  # what the first screen shows
    assert "optimal" in said.removeprefix(blocks(README, "text")[0])


@pytest.mark.parametrize("name", ["service.md", "jobs.md"])
def test_the_pages_of_the_service_run(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(folder)
    page = (ROOT / "docs" / name).read_text("utf-8")
    with running_server() as url:
        exec("\n".join(blocks(page, "python")).replace(PORT_IN_README, url), {})


def test_every_make_target_in_the_documents_exists() -> None:
    text = README + (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for target in set(re.findall(r"`?\bmake ([a-z-]+)`?", text)) - {"it"}:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_relative_links_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        if "packages" in document.parts or "_build" in document.parts:
            continue
        for link in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
            if "reference/" not in link:  # written by the build, which checks such links
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


def test_the_profile_page_says_truly_what_frames_do() -> None:
    pytest.importorskip("pandas")
    page = (ROOT / "docs" / "profile.md").read_text("utf-8")
    (example,) = [block for block in blocks(page, "python") if "import pandas" in block]
    exec(example, {})


def test_the_example_profile_is_complete() -> None:
    profile = load_profile(ROOT / "examples" / "minilm.json")
    assert len(profile.layers) == 37
    assert set(profile.costs) == {"hessian_trace", "fisher", "embedding_distance"}
    assert all(table.stderr is not None for table in profile.costs.values())
