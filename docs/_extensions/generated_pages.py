"""Pages that are written when the site is built: packages from docstrings, the command line, the HTTP service."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from typer.cli import get_docs_for_click

from api import cli

ROOT = Path(__file__).parents[2]
#: What programs import; the rest of ``api`` is the service's own.
ROOMS = ("bitalloc", "allocator", "quantize", "sensitivity")
_ABOVE = re.compile(r"\]\((?:\.\./)+(CONTRIBUTING|CHANGELOG|SECURITY|README)\.md")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what this extension does.

    Args:
        app: Sphinx.

    Returns:
        That it can be run in parallel.
    """
    app.add_lexer("csv", TextLexer)
    app.connect("builder-inited", _write_pages)
    app.connect("source-read", _lead_to_copies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    made = set()
    for room in ROOMS:
        for package in sorted({path.parent for path in (ROOT / room).rglob("*.py")}):
            if "migrations" in package.parts:
                continue  # alembic runs these; they cannot be imported
            name = ".".join(package.relative_to(ROOT).parts)
            made.add(folder / "packages" / f"{name}.rst")
            _write(folder / "packages" / f"{name}.rst", package_page(package, name))
    for stale in set((folder / "packages").glob("*.rst")) - made:
        stale.unlink()
    document = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
    _write(folder / "command_line.md", command_line())
    _write(folder / "http.md", http(document))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text("utf-8") != text:  # what is unchanged is not built again
        path.write_text(text, "utf-8")


def _lead_to_copies(_: Sphinx, name: str, source: list[str]) -> None:
    # On GitHub these links lead out of docs/; here the same files are pages of the site.
    above = "../" * name.count("/")
    source[0] = _ABOVE.sub(lambda found: f"]({above}{found[1].lower()}.md", source[0])


def package_page(package: Path, name: str) -> str:
    """Describe a package: what it is, then its modules one by one.

    Args:
        package: Its folder.
        name: Its dotted name.

    Returns:
        A page in reStructuredText; autodoc fills it from the docstrings.
    """
    lines = [name, "=" * len(name), "", f".. automodule:: {name}"]
    # What a package imports is described in the modules that define it.
    own = _defined(package / "__init__.py") if (package / "__init__.py").exists() else []
    lines += [f"   :members: {', '.join(own)}", "   :ignore-module-all:"] if own else []
    for path in sorted(package.glob("*.py")):
        if not path.stem.startswith("_"):
            module = f"{name}.{path.stem}"
            lines += ["", module, "-" * len(module), "", f".. automodule:: {module}", "   :members:"]
            lines += ["   :ignore-module-all:"]
    return "\n".join([*lines, ""])


def _defined(path: Path) -> list[str]:
    nodes = ast.parse(path.read_text("utf-8")).body
    names = (node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef))
    return [name for name in names if not name.startswith("_")]


def command_line() -> str:
    """Describe every subcommand, argument and option.

    Returns:
        A page.
    """
    command = typer.main.get_command(cli.app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="bitalloc")
    codes = (cli.__doc__ or "").partition("\n\n")[2]
    return re.sub(r"^# `bitalloc`\n", f"# Command line\n\n{codes}", text)


def http(document: Mapping[str, Any]) -> str:
    """Describe every path, body and answer of the service.

    Args:
        document: Its OpenAPI document.

    Returns:
        A page.
    """
    lines = ["# HTTP", "", document["info"]["description"].strip(), ""]
    lines += ["The same as a file: [openapi.json](../openapi.json).", ""]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += [f"## `{method.upper()} {path}`", "", *_operation(operation)]
    lines += ["## Bodies", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += [f"### {name}", "", *_schema(schema)]
    return "\n".join(lines)


def _operation(operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"{operation.get('description') or operation['summary']}\n"
    for parameter in operation.get("parameters", ()):
        needed = "required" if parameter.get("required") else "optional"
        said = f": {parameter['description']}" if "description" in parameter else ""
        yield f"- `{parameter['name']}` in {parameter['in']}, {needed}, {_type(parameter['schema'])}{said}"
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"\nBody, `{media}`: {_type(body.get('schema', {}))}\n"
        for name, example in body.get("examples", {}).items():
            yield f"Example, {name}:\n\n```json\n{json.dumps(example['value'], indent=1)}\n```\n"
    yield "\n| answer | is | body |\n|---|---|---|"
    for status, answer in operation["responses"].items():
        bodies = (
            f"`{media}`: {_type(body.get('schema', {}))}" for media, body in answer.get("content", {}).items()
        )
        yield f"| {status} | {' '.join(answer['description'].split())} | {', '.join(bodies)} |"
    yield ""


def _schema(schema: Mapping[str, Any]) -> Iterator[str]:
    summary, _, attributes = schema.get("description", "").partition("\n\nAttributes:\n")
    said = dict(re.findall(r"^    (\w+): (.*(?:\n        .*)*)", attributes, flags=re.MULTILINE))
    yield f"{summary}\n"
    if "enum" in schema:
        yield f"One of {', '.join(f'`{value}`' for value in schema['enum'])}.\n"
    if schema.get("properties"):
        yield "| field | type | needed | meaning |\n|---|---|---|---|"
        for name, field in schema["properties"].items():
            needed = "yes" if name in schema.get("required", ()) else "no"
            meaning = " ".join(said.get(name, field.get("description", "")).split()).replace("|", "\\|")
            yield f"| `{name}` | {_type(field)} | {needed} | {meaning} |"
        yield ""


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"name → {_type(schema['additionalProperties'])}"
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    return str(schema.get("type", "anything"))
