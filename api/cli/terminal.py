"""What people read: whole tables at any width, in any encoding, into pipes that may close."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

#: Name of the way to write what a terminal's encoding lacks.
_PLAIN = "bitalloc_plain"
#: What our own sentences contain beyond ASCII, in ASCII.
_ASCII = {
    "→": "->",
    "±": "+/-",
    "×": "x",
    "÷": "/",
    "…": "...",
    "–": "-",
    "−": "-",
    "µ": "u",
    "•": "*",
    "·": "-",
}


def for_people() -> Console:
    """A console for answers on standard output.

    Returns:
        A console that wraps nothing itself and takes no markup, for names may hold brackets.
    """
    return Console(soft_wrap=True, markup=False)


def print_table(
    console: Console, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print a table whole: names that are cut can no longer be told apart, whatever the width.

    Args:
        console: Where to print; a narrow terminal breaks the lines itself.
        columns: Headings.
        rows: One text for each column.
        right: Headings of the columns that are aligned to the right.
    """
    cells = [tuple(columns), *map(tuple, rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for at, row in enumerate(cells):
        line = Text("", "" if at else "bold")
        for name, text, width in zip(columns, row, widths, strict=True):
            blank = " " * (width - cell_len(text))
            line.append(f"{blank}{text}  " if name in right else f"{text}{blank}  ")
        line.rstrip()
        console.print(line)


def print_json(document: str) -> None:
    """Print JSON, escaped where the encoding of standard output lacks a character.

    Args:
        document: JSON, whose characters beyond ASCII are all within strings.
    """
    try:
        document.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        document = "".join(letter if letter.isascii() else json.dumps(letter)[1:-1] for letter in document)
    typer.echo(document)


def open_streams() -> None:
    """Let both standard streams take any text: what their encoding lacks is written in ASCII."""
    codecs.register_error(_PLAIN, _plain)
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as this runs
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAIN)


def close_quietly() -> None:
    """Lead standard output nowhere, so that Python has nothing to complain about when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    texts = (
        _ASCII.get(character) or character.encode("ascii", "backslashreplace").decode()
        for character in lacking
    )
    return "".join(texts), error.end
