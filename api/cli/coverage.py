"""What commands say of a model that is not, or not all of it, in the plan."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from allocator import Allocation, Note, Profile
from allocator.answer.notes.coverage import coverage_notes


def say_coverage(known: object) -> None:
    """Say how much of the model is planned.

    Args:
        known: A profile or an allocation; a table of layer and format does not know, and nothing is said.
    """
    notes: Iterable[Note] = ()
    if isinstance(known, Profile):
        notes = coverage_notes(known)
    elif isinstance(known, Allocation):
        notes = (note for note in known.notes if note.about == "coverage")
    for note in notes:
        typer.echo(str(note))


def say_not_compared(what: str) -> None:
    """Say on the error stream that nobody knows whether a model is the one that was profiled.

    Args:
        what: The profile or the plan that does not say.
    """
    typer.echo(
        f"note: {what} does not say which model it was made of; its weights were not compared", err=True
    )
