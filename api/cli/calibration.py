"""What commands measure a model with: its folder, and pairs of texts or one long text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from allocator import Fault, InvalidInputError
from allocator.contract.errors import require

#: Name of the encoder that the demo measures, for those who have no folder of it.
DEMO_MODEL = "all-MiniLM-L6-v2"
ModelFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a transformers model: a sentence encoder, or with --text a causal language model. "
        "`all-MiniLM-L6-v2` is the encoder of the demo."
    ),
]
OtherModel: TypeAlias = Annotated[
    bool,
    typer.Option("--other-model", help="Go on though the model is not the one that was profiled."),
]
Pairs: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help='For an encoder: JSON lines of `{"query": …, "document": …}`; docstrings of the standard library when '
        "absent."
    ),
]
TextFile: TypeAlias = Annotated[
    Path | None, typer.Option(help="For a language model: text like what it will read, UTF-8.")
]
Length: TypeAlias = Annotated[int, typer.Option(help="Tokens of one window of --text.", min=2)]


def encoder_folder(model: Path | None) -> Path:
    """Find the encoder that was asked for; there is none by default.

    Args:
        model: Its folder, or the name of the demo's.

    Returns:
        The folder.

    Raises:
        InvalidInputError: None was given.
    """
    if model is None:
        detail = f"say which model with --model FOLDER; `{DEMO_MODEL}` is the encoder of the demo"
        raise InvalidInputError(Fault("--model", detail))
    if str(model) == DEMO_MODEL and not model.exists():
        require("torch", "models")
        from sensitivity.models.text_encoder import minilm_folder

        return minilm_folder()
    return model


def language_folder(model: Path | None, pairs: Path | None) -> Path:
    """Check what goes with a text.

    Args:
        pairs: File of pairs.

    Returns:
        The folder.

    Raises:
        InvalidInputError: There is no folder, or pairs as well.
    """
    if model is None:
        raise InvalidInputError(
            Fault("--text", "is for a causal language model; say which with --model FOLDER")
        )
    if pairs is not None:
        raise InvalidInputError(
            Fault("--text", "is for a language model and --pairs for an encoder; give one of them")
        )
    return model


def read_text(path: Path) -> str:
    """Read a text.

    Args:
        path: A file in UTF-8.

    Returns:
        The text.

    Raises:
        InvalidInputError: The file cannot be read.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(Fault("--text", f"cannot read {str(path)!r}: {error}")) from error


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read (query, document) pairs.

    Args:
        path: JSON lines, each with the texts ``query`` and ``document``.

    Returns:
        The pairs.

    Raises:
        InvalidInputError: The file cannot be read, or a line is not a pair; names the line.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(Fault("--pairs", f"cannot read {str(path)!r}: {error}")) from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            query, document = entry["query"], entry["document"]
        except (ValueError, KeyError, TypeError) as error:
            detail = f'line {number}: expected {{"query": …, "document": …}}, got {line[:60]!r}'
            raise InvalidInputError(Fault("--pairs", detail)) from error
        if not isinstance(query, str) or not isinstance(document, str):
            raise InvalidInputError(Fault("--pairs", f"line {number}: query and document must be texts"))
        found.append((query, document))
    return found
