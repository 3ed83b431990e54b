"""Who may import whom (the map's table): a wrong arrow fails here, not in review."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
ROOMS = ("bitalloc", "allocator", "quantize", "sensitivity", "api")
NEVER = {
    "allocator": {"torch", "fastapi", "quantize", "sensitivity", "api"},
    "quantize": {"sensitivity", "api", "fastapi"},
    "sensitivity": {"api", "fastapi"},
    "api": set[str](),
}
#: Importing one of these must not drag in torch.
LEAN = {"allocator", "quantize", "api", "api.app", "bitalloc.client", "api.cli", "api.server"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_run_one_way(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported(path)
        if name in NEVER[room]
    }
    assert not wrong


@pytest.mark.parametrize("module", sorted(LEAN))
def test_imports_without_torch(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def required(distribution: str, found: set[str] | None = None) -> set[str]:
    """A distribution and everything it requires without extras."""
    found = set() if found is None else found
    name = distribution.lower().replace("_", "-")
    if name not in found:
        found.add(name)
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                required(requirement.name, found)
    return found


@pytest.mark.parametrize("module", ["allocator", "quantize", "api", "api.cli", "api.cli.solve"])
def test_a_plain_install_has_what_is_imported(module: str) -> None:
    code = f"import {module}, json, sys; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout
    owners = metadata.packages_distributions()
    used = {owner.lower().replace("_", "-") for name in json.loads(output) for owner in owners.get(name, ())}
    # numpy takes charset-normalizer where something else has installed it.
    assert used <= required("bitalloc") | {"setuptools", "charset-normalizer"}
