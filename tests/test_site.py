"""The documentation builds without a warning, and its reference leaves nothing out."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from api import cli
from api.app import create_app
from api.settings import Settings
from tests.test_arrows import ROOMS, ROOT

DOCS = ROOT / "docs"
PAGES: dict[str, Any] = runpy.run_path(str(DOCS / "_extensions" / "generated_pages.py"))


def test_every_command_and_option_is_in_the_reference() -> None:
    page = PAGES["command_line"]()
    command = typer.main.get_command(cli.app)
    for name, sub in command.commands.items():  # type: ignore[attr-defined]
        section = page.partition(f"\n## `bitalloc {name}`\n")[2].partition("\n## ")[0]
        assert section, name
        for parameter in sub.params:
            if parameter.param_type_name == "option":
                assert parameter.opts[0] in section, (name, parameter.opts)
    assert "Exit codes" in page


def test_every_path_body_and_field_is_in_the_reference() -> None:
    document = create_app(Settings()).openapi()
    page = PAGES["http"](document)
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"\n## `{method.upper()} {path}`\n" in page
    for name, schema in document["components"]["schemas"].items():
        section = page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert section, name
        for field in schema.get("properties", {}):
            assert f"| `{field}` |" in section, (name, field)
    assert "Amount spent, recomputed from the table." in page  # what the docstring says of a field


def test_references_between_bodies_lead_to_their_sections() -> None:
    page = PAGES["http"](create_app(Settings()).openapi())
    sections = {name.lower() for name in re.findall(r"^### (\w+)$", page, flags=re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= sections


def test_every_module_is_in_the_reference() -> None:
    for room in ROOMS:
        for package in {path.parent for path in (ROOT / room).rglob("*.py")}:
            name = ".".join(package.relative_to(ROOT).parts)
            page = PAGES["package_page"](package, name)
            for path in package.glob("*.py"):
                module = name if path.stem == "__init__" else f"{name}.{path.stem}"
                assert path.stem.startswith("__main") or f".. automodule:: {module}\n" in page, module


def test_links_to_files_above_lead_to_their_pages() -> None:
    source = ["see [this](../../CONTRIBUTING.md#add-a-solver)"]
    PAGES["_lead_to_copies"](None, "how-to/pin_lm_head", source)
    assert source == ["see [this](../contributing.md#add-a-solver)"]


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "-d",
        str(tmp_path / "trees"),
    ]
    done = subprocess.run(
        [*command, str(DOCS), str(tmp_path / "site")], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    built = {
        str(page.relative_to(tmp_path / "site").with_suffix(""))
        for page in (tmp_path / "site").rglob("*.html")
    }
    sources = {
        str(page.relative_to(DOCS).with_suffix(""))
        for page in [*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")]
        if "_build" not in page.parts
    }
    assert sources <= built
