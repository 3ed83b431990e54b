"""``bitalloc profile``: measure a sentence encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from allocator import Fault, InvalidInputError
from allocator.errors import require
from api.cli.parsing import write


def command(
    out: Annotated[Path, typer.Option(help="Write the profile here.")] = Path("profile.json"),
    model: Annotated[
        Path | None, typer.Option(help="Folder of a transformers encoder; all-MiniLM-L6-v2 when absent.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help='JSON lines of `{"query": …, "document": …}`; docstrings of the standard library when absent.'
        ),
    ] = None,
    formats: Annotated[
        str, typer.Option(help="Formats to choose from.")
    ] = "int2-g64,int3-g64,int4-g64,int8-g64,fp16",
    tables: Annotated[
        str, typer.Option(help="Cost tables to fill.")
    ] = "hessian_trace,fisher,embedding_distance",
    count: Annotated[int, typer.Option(help="Number of pairs to use.", min=2)] = 250,
    probes: Annotated[int, typer.Option(help="Hessian-vector products for `hessian_trace`.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    journal: Annotated[
        Path | None,
        typer.Option(help="Remember finished measurements here; the same command goes on from them."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary as JSON and nothing else.")
    ] = False,
) -> None:
    """Measure what each format costs each layer of a sentence encoder.

    Example: `bitalloc profile --model ./my-encoder --pairs pairs.jsonl --out profile.json`

    For any other model use `sensitivity.profile_model` from Python.
    """
    require("torch", "models")
    from sensitivity.docstrings import docstring_pairs
    from sensitivity.encoder_profile import profile_encoder
    from sensitivity.journal import Journal
    from sensitivity.progress import Bars
    from sensitivity.tasks import serial
    from sensitivity.text_encoder import load_text_encoder

    data = docstring_pairs(count) if pairs is None else read_pairs(pairs)[:count]
    encoder, tokenizer = load_text_encoder(model)
    with Bars(quiet=as_json) as progress:
        profile = profile_encoder(
            encoder,
            tokenizer,
            data,
            formats=[name.strip() for name in formats.split(",")],
            tables=[name.strip() for name in tables.split(",")],
            name="all-MiniLM-L6-v2" if model is None else model.name,
            probes=probes,
            seed=seed,
            progress=progress,
            engine=serial if journal is None else Journal(journal),
        )
    write(out, profile.model_dump_json(indent=1) + "\n")
    summary = {"path": str(out), "layers": len(profile.layers), "sha256": profile.digest()}
    typer.echo(json.dumps(summary) if as_json else f"{summary['layers']} layers → {out}")


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
