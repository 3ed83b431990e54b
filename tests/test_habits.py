"""What helps the next person works: hooks, editor settings, templates, the list of targets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def test_the_hooks_are_valid_and_run_the_gates_own_commands() -> None:
    subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"],
        cwd=ROOT,
        check=True,
    )
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"  # no second set of versions
    entries = [hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    lint = MAKEFILE.partition("\nlint:")[2].partition("\n\n")[0]
    assert set(re.findall(r"\$\(BIN\)/(\w+)", lint)) <= set(entries)


def test_help_lists_every_target_with_what_it_does() -> None:
    # Below another make, as in `make test`, make would announce the directories it enters.
    command = ["make", "--no-print-directory", "help"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    listed = {line.split()[0] for line in said.splitlines() if len(line.split()) > 2}
    (declared,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)
    assert set(declared.split()) == listed


def test_make_targets_and_pages_of_the_release_checklist_exist() -> None:
    page = (ROOT / "docs" / "releasing.md").read_text()
    for target in re.findall(r"`make ([a-z-]+)`", page):
        assert f"\n{target}:" in MAKEFILE, target
    assert (ROOT / ".ci" / "run").exists()
    for target in re.findall(r"make ([a-z-]+)", (ROOT / ".github" / "pull_request_template.md").read_text()):
        assert f"\n{target}:" in MAKEFILE, target


def test_every_room_ships_its_types() -> None:
    for room in ("bitalloc", "allocator", "quantize", "sensitivity", "api"):
        assert (ROOT / room / "py.typed").exists()
