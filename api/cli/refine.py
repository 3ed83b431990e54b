"""``bitalloc refine``: plans applied to a model and measured, until none gets better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from allocator import load_profile
from api.cli.calibration import Length, ModelFolder, Pairs, TextFile
from api.cli.measuring import Count, Force, plan_measure
from api.cli.options import Allowed, AsJson, Budgets, Forbidden, Limits, Objectives, Pins, ProfileFile, asked
from api.cli.parsing import require_writable, write
from quantize.files import require_free


def command(
    profile: ProfileFile,
    budget: Budgets = None,
    objective: Objectives = None,
    limit: Limits = None,
    pin: Pins = None,
    allow: Allowed = None,
    forbid: Forbidden = None,
    model: ModelFolder = None,
    pairs: Pairs = None,
    text: TextFile = None,
    count: Count = 24,
    length: Length = 128,
    max_evaluations: Annotated[int, typer.Option(help="Plans to measure.", min=1)] = 40,
    patience: Annotated[int, typer.Option(help="Stop after so many plans without a better one.", min=1)] = 15,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    journal: Annotated[
        Path | None,
        typer.Option(help="Remember measurements here; the same command goes on from them."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Write the allocation here, as JSON.")] = Path("plan.json"),
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Measure plans and keep the best: never worse than the solver's, uniform or greedy.

    Example: `bitalloc refine profile.json -o embedding_distance -b effective_bits=3.25 --journal refine.journal`

    Example: `bitalloc refine profile.json -o kl -b weight_bytes=4GB --model ./my-llama --text corpus.txt`

    Sentence encoders are measured by embedding distance, causal language models by KL divergence. Budgets hold by the
    tables. For any other model, and for measured latency, use `quantize.feedback.refine`.
    """
    request = asked(budget=budget, objective=objective, limit=limit, pin=pin, allow=allow, forbid=forbid)
    loaded = load_profile(profile)
    require_free(out, force=force)
    require_writable(out)
    measure = plan_measure(model, pairs, text, count, length)
    from quantize.feedback import refine
    from sensitivity.progress import Bars

    with Bars(quiet=as_json) as bars:
        found = refine(
            loaded,
            measure,
            max_evaluations=max_evaluations,
            patience=patience,
            seed=seed,
            journal=journal,
            progress=bars,
            **request.model_dump(),
        )
    write(out, found.allocation.model_dump_json(indent=2) + "\n")
    losses = {name: found.loss_of(name) for name in ("start", "uniform", "greedy")} | {
        "refined": found.best.loss
    }
    if as_json:
        summary = {"path": str(out), "losses": losses, "evaluations": len(found.trials)}
        typer.echo(json.dumps(summary | {"stopped": found.stopped}))
        return
    console = Console(soft_wrap=True, markup=False)
    for name, loss in losses.items():
        console.print(Text(f"{name}: {'no such plan' if loss is None else f'{loss:.6g}'}"))
    console.print(Text(f"{found.stopped}; the plan is in {out}"))
