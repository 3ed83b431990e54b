"""``bitalloc lint``: would a runtime load this plan?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from allocator import Fault, InvalidInputError, load_profile
from api.cli.coverage import say_coverage
from api.cli.plans import read_names, read_plan
from api.cli.runtimes import say_ignored
from quantize.exports import EXPORTS, read_files
from quantize.lint import (
    RUNTIMES,
    Finding,
    Model,
    lint_files,
    lint_plan,
    model_of_folder,
    model_of_profile,
)

_RUNTIMES = ", ".join(f"`{name}`" for name in RUNTIMES)
_FORMATS = ", ".join(f"`{name}`" for name in EXPORTS)


def command(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            help="A plan, or a configuration of another tool: a file or its folder; with `--server`, the id of a plan."
        ),
    ],
    runtime: Annotated[str, typer.Option("--runtime", "-r", help=f"Who is to load it: {_RUNTIMES}.")],
    written_for: Annotated[
        str, typer.Option("--format", help=f"`plan`, or whose configuration it is: {_FORMATS}.")
    ] = "plan",
    model: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoint: names, shapes and ties of its layers.")
    ] = None,
    profile: Annotated[Path | None, typer.Option(help="Profile: names of the layers only.")] = None,
    names: Annotated[
        Path | None, typer.Option(help="JSON table of layers and the tool's names for them.", metavar="FILE")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON and nothing else.")
    ] = False,
) -> None:
    """Say what a runtime would trip over, before anything is quantized.

    Example: `bitalloc lint plan.json --runtime vllm --model ./checkpoint`

    Ends with 1 where there are errors; warnings do not count. The rules are in docs/lint.md.
    """  # noqa: DOC501 - the docstring is the help text
    RUNTIMES.find(runtime)
    known = _model(model, profile)
    plan = read_plan(path, context.obj) if written_for == "plan" else None
    if plan is not None:
        found = lint_plan(plan, runtime, known)
    else:
        found = lint_files(written_for, read_files(written_for, path), runtime, known, read_names(names))
    _print(found, runtime, as_json=as_json)
    if not as_json:
        say_coverage(plan)
    if any(finding.severity == "error" for finding in found):
        raise typer.Exit(1)


def _model(folder: Path | None, profile: Path | None) -> Model | None:
    if folder is not None and profile is not None:
        raise InvalidInputError(
            Fault("--profile", "give a model or a profile, not both: the model has the names too")
        )
    if folder is not None:
        say_ignored(folder)
        return model_of_folder(folder)
    return None if profile is None else model_of_profile(load_profile(profile))


def _print(found: tuple[Finding, ...], runtime: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"runtime": runtime, "findings": [asdict(finding) for finding in found]}))
        return
    for finding in found:
        typer.echo(str(finding))
    errors = sum(finding.severity == "error" for finding in found)
    typer.echo(f"{runtime}: {errors} errors, {len(found) - errors} warnings")
