"""``bitalloc profile``: measure a sentence encoder or a language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from allocator import Fault, InvalidInputError, Profile
from allocator.contract.errors import require
from api.cli.calibration import (
    Length,
    ModelFolder,
    Pairs,
    TextFile,
    encoder_folder,
    language_folder,
    read_pairs,
    read_text,
)
from api.cli.coverage import say_coverage
from api.cli.parsing import Force, require_outputs, write
from quantize import NEAREST, Rounding
from quantize.llama_types import format_named
from quantize.rounding.moments import write_moments
from quantize.runtimes import RUNTIMES, Capabilities, columns_of, objections

_ENCODER = "gauss_newton_trace,fisher,embedding_distance"
_LANGUAGE = "gauss_newton_trace,fisher,kl"
_FORMATS = "int2-g64,int3-g64,int4-g64,int8-g64,fp16"


def command(
    out: Annotated[Path, typer.Option(help="Write the profile here.")] = Path("profile.json"),
    model: ModelFolder = None,
    pairs: Pairs = None,
    text: TextFile = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="RUNTIME",
            help=f"Who is to load the plan: {', '.join(f'`{name}`' for name in RUNTIMES)}. Sets formats, units, "
            "rounding and which layers stay as they are.",
        ),
    ] = None,
    formats: Annotated[
        str | None, typer.Option(help=f"Formats to choose from; {_FORMATS} when absent, or those of --for.")
    ] = None,
    tables: Annotated[
        str | None,
        typer.Option(help=f"Cost tables to fill; {_ENCODER} or, with --text, {_LANGUAGE} when absent."),
    ] = None,
    resources: Annotated[
        str,
        typer.Option(
            help="What plans spend: weight_bytes, latency_us (ONNX Runtime on this machine), bops, …."
        ),
    ] = "weight_bytes",
    count: Annotated[
        int | None, typer.Option(help="Pairs to use, 250 when absent, or windows of --text, 32.", min=2)
    ] = None,
    length: Length = 128,
    units: Annotated[
        str | None,
        typer.Option(
            help="With --text: layers that share a format; vllm for those that vLLM fuses. `none`, or those of --for, "
            "when absent."
        ),
    ] = None,
    probes: Annotated[int, typer.Option(help="Probes of the traces.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    journal: Annotated[
        Path | None,
        typer.Option(help="Remember finished measurements here; the same command goes on from them."),
    ] = None,
    force: Force = False,
    moments: Annotated[
        Path | None,
        typer.Option(
            help="With --text: also write the second moments of every layer's inputs here, for `apply --moments`."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary as JSON and nothing else.")
    ] = False,
) -> None:
    """Measure what each format costs each layer of a sentence encoder, or of a causal language model.

    Example: `bitalloc profile --model ./my-encoder --pairs pairs.jsonl --out profile.json`

    Example: `bitalloc profile --model ./my-llama --text corpus.txt --for vllm --out profile.json`

    For any other model use `sensitivity.profile_model` from Python.
    """  # noqa: DOC501 - the docstring is the help text
    require_outputs((("--out", out), ("--moments", moments)), force=force, journal=journal)
    require("torch", "models")
    from sensitivity.engines.journal import Journal
    from sensitivity.profiling.progress import Bars
    from sensitivity.study.tasks import serial

    if moments is not None and text is None:
        raise InvalidInputError(Fault("--moments", "is for language models; give --text too"))
    table = None if runtime is None else _table(runtime, formats, text)
    columns = [name.strip() for name in (formats or _FORMATS).split(",")]
    if table is not None and formats is None:
        columns = list(columns_of(table))
    units = units or ("none" if table is None or text is None else table.units)
    rows = [name.strip() for name in (tables or (_ENCODER if text is None else _LANGUAGE)).split(",")]
    with Bars(quiet=as_json) as progress:
        settings = {
            "resources": [name.strip() for name in resources.split(",")],
            "formats": columns, "tables": rows, "probes": probes, "seed": seed, "progress": progress,
            "engine": serial if journal is None else Journal(journal), "runtime": runtime,
            "rounding": NEAREST if table is None else Rounding(table.rounding),
        }  # fmt: skip
        if text is None:
            profile = _encoder(model, pairs, count or 250, units, settings)
        else:
            folder = language_folder(model, pairs)
            profile = _language(folder, text, count or 32, length, units, settings, moments)
    write(out, profile.model_dump_json(indent=1) + "\n")
    summary = {"path": str(out), "layers": len(profile.layers), "sha256": profile.digest()}
    typer.echo(json.dumps(summary) if as_json else f"{summary['layers']} layers → {out}")
    if not as_json:
        say_coverage(profile)


def _table(runtime: str, formats: str | None, text: Path | None) -> Capabilities:
    table = RUNTIMES.find(runtime)
    if (text is None and table.fuses) or (text is None and table.backend == "gguf"):
        raise InvalidInputError(Fault("--for", f"{runtime} serves language models; give --text too"))
    names = [] if formats is None else [name.strip() for name in formats.split(",")]
    refused = [
        Fault("--formats", f"{name}: {item.detail}; {item.advice}")
        for name in names
        for item in objections(table, "matrix", None, format_named(name))
        if item.severity == "error"
    ]
    if refused:
        raise InvalidInputError(*refused)
    return table


def _encoder(
    model: Path | None, pairs: Path | None, count: int, units: str, settings: dict[str, Any]
) -> Profile:
    from sensitivity.pretrained.docstrings import docstring_pairs
    from sensitivity.pretrained.text_encoder import load_text_encoder
    from sensitivity.profiling.encoder_profile import profile_encoder

    if units != "none":
        raise InvalidInputError(Fault("--units", "is for language models; give --text too"))
    folder = encoder_folder(model)
    data = docstring_pairs(count) if pairs is None else read_pairs(pairs)[:count]
    encoder, tokenizer = load_text_encoder(folder)
    name = (model or folder).name
    return profile_encoder(encoder, tokenizer, data, name=name, **settings)


def _language(
    folder: Path,
    text: Path,
    count: int,
    length: int,
    units: str,
    settings: dict[str, Any],
    moments: Path | None,
) -> Profile:
    from sensitivity.models.layers import discover
    from sensitivity.pretrained.language_model import load_language_model, next_token_loss, windows
    from sensitivity.profiling.language_profile import profile_language_model
    from sensitivity.study.input_moments import input_moments

    corpus = read_text(text)
    model, tokenizer = load_language_model(folder)
    batches = windows(tokenizer, corpus, length, count)
    profile = profile_language_model(
        model, batches, units=units, name=folder.name, checkpoint=folder, **settings
    )
    if moments is not None:
        write_moments(moments, input_moments(model, batches, next_token_loss, discover(model)))
    return profile
