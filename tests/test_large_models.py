"""The page about large models is true: its files run, and every executor prints the same digest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from allocator import load_profile
from tests.sensitivity.llamas import write_llama
from tests.test_documents import ROOT, blocks, shell

pytestmark = pytest.mark.long  # every file is a process of its own that loads torch

PAGE = (ROOT / "docs" / "large_models.md").read_text("utf-8")
JOURNAL, LOCAL, CLUSTERS, STREAM = blocks(PAGE, "bash")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of the page."""
    for block in blocks(PAGE, "python"):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name, block
        (tmp_path / name[1]).write_text(block)
    return tmp_path


def test_processes_print_the_digest_of_a_serial_run(folder: Path) -> None:
    serial, process = shell(LOCAL, folder).split()
    assert serial == process
    assert len(serial) == 64
    journals = [
        sorted((folder / f"{name}.journal").read_bytes().splitlines()) for name in ("serial", "process")
    ]
    assert journals[0] == journals[1]  # workers finish in any order


def test_clusters_print_the_digest_of_a_serial_run(folder: Path) -> None:
    serial = shell(LOCAL.splitlines()[0], folder)
    assert shell(CLUSTERS, folder) == 2 * serial


def test_the_command_goes_on_from_its_journal(folder: Path) -> None:
    shell(JOURNAL, folder)
    first, written = (folder / "profile.json").read_bytes(), (folder / "run.journal").read_bytes()
    shell(JOURNAL, folder)
    assert (folder / "profile.json").read_bytes() == first
    assert (folder / "run.journal").read_bytes() == written


def test_a_streamed_checkpoint_can_be_planned(folder: Path) -> None:
    write_llama(folder / "llama", hidden_size=64, intermediate_size=128)  # whole groups of 64
    assert "optimal" in shell(STREAM, folder)
    assert list(load_profile(folder / "profile.json").costs) == ["zd", "rounding_error", "output_mse"]
    assert list((folder / "spilled").iterdir()) == []


def test_a_function_can_watch(folder: Path) -> None:
    assert shell("python notebook.py", folder) == "1.0\n"
