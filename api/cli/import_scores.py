"""``bitalloc import``: what another tool measured, as a profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from api.cli.parsing import Force, require_outputs, write
from api.cli.plans import read_names
from quantize.imports import IMPORTS, import_scores

_SOURCES = ", ".join(f"`{name}`" for name in IMPORTS)


def command(
    files: Annotated[list[Path], typer.Argument(help="Files of scores; auto-round has one per format.")],
    source: Annotated[str, typer.Option("--from", help=f"Who measured: {_SOURCES}.")],
    out: Annotated[Path, typer.Option(help="Write the profile here.")] = Path("profile.json"),
    formats: Annotated[
        str,
        typer.Option(help="Formats, where the files do not name them: low,high for mlx; any for imatrix."),
    ] = "",
    model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the checkpoint, for weights (imatrix), sizes (mlx) and numbers of weights (all others)."
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            help="JSON table of layers and the tool's names for them; layers of one name are one row.",
            metavar="FILE",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model, for people.")] = "",
    force: Force = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary as JSON and nothing else.")
    ] = False,
) -> None:
    """Turn another tool's scores into a profile to plan from.

    Example: `bitalloc import scores.csv --from csv --out profile.json`

    A CSV file has the columns layer, format, cost, bytes; see docs/exports.md for the others.
    """
    require_outputs((("--out", out),), force=force)
    wanted = [text.strip() for text in formats.split(",") if text.strip()]
    profile = import_scores(source, files, formats=wanted, model=model, name=name, names=read_names(names))
    write(out, profile.model_dump_json(indent=2) + "\n")
    summary = {
        "path": str(out),
        "layers": len(profile.layers),
        "formats": list(profile.formats),
        "sha256": profile.digest(),
    }
    for note in profile.provenance.notes.values():
        typer.echo(f"note: {note}", err=True)
    typer.echo(
        json.dumps(summary)
        if as_json
        else f"{len(profile.layers)} layers, {len(profile.formats)} formats → {out}"
    )
