"""``bitalloc export``: a plan in another tool's own configuration format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from allocator import Allocation
from api.cli.coverage import say_coverage
from api.cli.parsing import require_outputs
from api.cli.plans import PLAN, PlanFile, PlanFormat, PlanNames, read_names, read_plan
from api.cli.runtimes import say_ignored, say_unreadable
from quantize import exports
from quantize.checkpoints.matrices import stored_matrices
from quantize.lint import model_of_folder
from quantize.lint.gate import Findings, findings_of_export, require_readable

_TARGETS = ", ".join(f"`{name}`" for name in exports.EXPORTS)


def command(
    context: typer.Context,
    plan: PlanFile,
    to: Annotated[str, typer.Option(help=f"Whose format: {_TARGETS}.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("export"),
    model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the checkpoint: its layers outside the plan are left alone by name, and groups have to "
            "make up its rows."
        ),
    ] = None,
    written_for: PlanFormat = PLAN,
    names: PlanNames = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="The one runtime that has to load the files; any of those that read them when absent."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing where the format cannot say all of the plan.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that exist, and write what no runtime would load.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
) -> None:
    """Write a plan in another tool's own configuration format.

    Example: `bitalloc export plan.json --to compressed-tensors --out export`

    What the format cannot say is listed; see docs/exports.md. What no runtime would load is refused, with the rules
    of docs/lint.md.
    """
    files = exports.EXPORTS.find(to).files
    require_outputs([("--out", out / name) for name in files], force=force)
    shapes = {} if model is None else stored_matrices(model)
    if model is not None and not as_json:
        say_ignored(model)
    own = read_names(names)
    layers = None if model is None else list(shapes)
    read = read_plan(plan, context.obj, written_for=written_for, layers=layers)
    done = exports.export(read, to, others=list(shapes), names=own, shapes=shapes, strict=strict)
    found = _findings(read, done, model, own, runtime)
    require_readable(found, insist=force)
    if not as_json:
        say_unreadable(found)
    _say(done, exports.write(done, out, force=force), as_json=as_json)
    if not as_json:
        say_coverage(read)


def _say(done: exports.Export, paths: Iterable[Path], *, as_json: bool) -> None:
    if as_json:
        names, losses = [str(path) for path in paths], [asdict(loss) for loss in done.losses]
        result = {"target": done.target, "paths": names, "losses": losses, "advice": done.advice}
        typer.echo(json.dumps(result))
        return
    for path in paths:
        typer.echo(f"{path}: {done.advice}")
    for line in _summed_up(done.losses):
        typer.echo(f"lost: {line}")


def _findings(
    plan: Allocation | dict[str, str],
    done: exports.Export,
    folder: Path | None,
    names: dict[str, str],
    runtime: str | None,
) -> Findings:
    assignment = plan.assignment if isinstance(plan, Allocation) else plan
    known = None if folder is None else model_of_folder(folder)
    return findings_of_export(done, assignment or {}, known, names=names, runtime=runtime)


def _summed_up(losses: Iterable[exports.Loss]) -> Iterator[str]:
    alike: dict[str, list[str]] = {}
    for loss in losses:
        what = f"{loss.wanted} becomes {loss.instead}: {loss.reason}"
        alike.setdefault(what, []).append(loss.layer)
    for what, layers in alike.items():
        more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
        yield f"{layers[0]}{more}: {what}"
