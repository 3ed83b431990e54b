"""Who may import whom (the map's table): a wrong arrow fails here, not in review."""

from __future__ import annotations

import ast
import json
import re
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
    "bitalloc": {"torch", "fastapi", "quantize", "sensitivity", "api"},
    "allocator": {"torch", "fastapi", "bitalloc", "quantize", "sensitivity", "api"},
    "quantize": {"bitalloc", "sensitivity", "api", "fastapi"},
    "sensitivity": {"bitalloc", "api", "fastapi"},
    "api": set[str](),
}
#: The front door itself, which names every room for type checkers, and the command, the one way from there to ``api``.
DOOR = {"bitalloc/__init__.py", "bitalloc/__main__.py"}
#: Importing one of these must not drag in torch.
LEAN = {"bitalloc", "allocator", "quantize", "api", "api.app", "bitalloc.client", "api.cli", "api.server"}


def files(room: str) -> list[Path]:
    """The files of a room that keep its arrows."""
    found = sorted((ROOT / room).rglob("*.py"))
    assert found
    return [path for path in found if str(path.relative_to(ROOT)) not in DOOR]


def modules_imported(path: Path) -> Iterator[str]:
    """What a file imports, also inside functions and for type checkers only: ``package.module.name``."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported(path: Path) -> Iterator[str]:
    """The packages that a file imports from."""
    yield from (name.partition(".")[0] for name in modules_imported(path))


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_run_one_way(room: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(room)
        for name in imported(path)
        if name in NEVER[room]
    }
    assert not wrong


def test_the_door_names_other_rooms_for_type_checkers_only() -> None:
    tree = ast.parse((ROOT / "bitalloc" / "__init__.py").read_text("utf-8"))
    outside = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert outside == {"importlib", "importlib.util", "pathlib", "typing"}
    command = set(imported(ROOT / "bitalloc" / "__main__.py"))
    assert command == {"sys", "pathlib", "api"}


def folders(room: str) -> dict[str, set[str]]:
    """For each folder of a room, and each file beside them, which others it imports from."""
    arrows: dict[str, set[str]] = {}
    for path in files(room):
        own = path.relative_to(ROOT / room).parts[0].removesuffix(".py")
        if own == "__init__":
            continue  # the room's own list of names
        found = {name.split(".")[1] for name in modules_imported(path) if name.startswith(f"{room}.")}
        arrows.setdefault(own, set()).update(found - {own})
    return {own: found & arrows.keys() for own, found in arrows.items()}


def reached(arrows: dict[str, set[str]], start: str) -> set[str]:
    """All that a folder imports from, at whatever distance."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        more = arrows[ahead.pop()] - found
        found |= more
        ahead += more
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_the_folders_of_a_room_import_in_no_circle(room: str) -> None:
    arrows = folders(room)
    assert not {own for own in arrows if own in reached(arrows, own)}


def test_the_folders_come_in_the_order_that_the_architecture_says() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = page.partition("| room | order of its folders |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    for row in rows:
        room, *order = re.findall(r"`(\w+)`", row)
        arrows = folders(room)
        assert len(order) > 1
        for at, folder in enumerate(order):
            assert not arrows[folder] & set(order[at + 1 :]), (room, folder)


def test_a_circle_would_be_found() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert reached(arrows, "a") == {"a", "b", "c"}
    assert "d" not in reached(arrows, "d")


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


@pytest.mark.parametrize("module", ["bitalloc", "allocator", "quantize", "api", "api.cli", "api.cli.solve"])
def test_a_plain_install_has_what_is_imported(module: str) -> None:
    code = f"import {module}, json, sys; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout
    owners = metadata.packages_distributions()
    used = {owner.lower().replace("_", "-") for name in json.loads(output) for owner in owners.get(name, ())}
    # numpy takes charset-normalizer where something else has installed it.
    assert used <= required("bitalloc") | {"setuptools", "charset-normalizer"}
