"""What commands say of runtimes: which of them loads what was written, and what of a folder was not read."""

from __future__ import annotations

from pathlib import Path

import typer

from allocator import Profile
from quantize.checkpoints.safetensors import INDEX, SINGLE, open_checkpoint
from quantize.lint.gate import Findings, errors_of

#: Where a profile notes the runtime that it was made for.
NOTE = "/runtime"


def runtime_of(profile: Profile | None) -> str | None:
    """Return the name of the runtime that a profile was made for; None for any."""
    notes = {} if profile is None or profile.provenance is None else profile.provenance.notes
    return notes.get(NOTE)


def say_ignored(folder: Path) -> None:
    """Name the weight files of a folder that are no part of the model.

    Args:
        folder: A checkpoint.
    """
    for name in open_checkpoint(folder).ignored:
        decides = INDEX if (folder / INDEX).exists() else SINGLE
        typer.echo(f"ignored: {name}, which is not the model by {decides}", err=True)


def say_unreadable(found: Findings) -> None:
    """Name the runtimes that would not load what was written, with the first reason.

    Args:
        found: Runtime → findings.
    """
    for runtime, findings in found.items():
        errors = errors_of(findings)
        if errors:
            more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
            layers = errors[0].layers
            about = (
                f"{layers[0]}{f' and {len(layers) - 1} more' if len(layers) > 1 else ''}: " if layers else ""
            )
            typer.echo(f"{runtime} would not load it: {about}{errors[0].detail}{more}", err=True)
