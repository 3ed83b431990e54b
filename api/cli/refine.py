"""``bitalloc refine``: plans applied to a model and measured, until none gets better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from allocator import Fault, InvalidInputError, Profile, load_profile
from allocator.contract.errors import unknown
from api.cli.calibration import Length, ModelFolder, OtherModel, Pairs, TextFile
from api.cli.measuring import Count, plan_measure
from api.cli.options import Allowed, AsJson, Budgets, Forbidden, Limits, Objectives, Pins, ProfileFile, asked
from api.cli.parsing import Force, require_outputs, write
from api.cli.terminal import for_people

if TYPE_CHECKING:
    from quantize.feedback.refined import Refined


def command(
    profile: ProfileFile,
    budget: Budgets = None,
    objective: Objectives = None,
    limit: Limits = None,
    pin: Pins = None,
    allow: Allowed = None,
    forbid: Forbidden = None,
    model: ModelFolder = None,
    other_model: OtherModel = False,
    pairs: Pairs = None,
    text: TextFile = None,
    count: Count = 24,
    length: Length = 128,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="Time plans of an encoder on it, so that a budget on `latency_us` holds by the clock: `onnxruntime`, "
            "one text, one thread."
        ),
    ] = None,
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

    Example: `bitalloc refine profile.json -o embedding_distance -b effective_bits=3.25 --model ./my-encoder`

    Example: `bitalloc refine profile.json -o kl -b weight_bytes=4GB --model ./my-llama --text corpus.txt`

    Sentence encoders are measured by embedding distance, causal language models by KL divergence. Budgets hold by the
    tables, and with `--runtime` one on `latency_us` by the clock. For any other model or clock use
    `quantize.feedback.refine`.
    """
    request = asked(budget=budget, objective=objective, limit=limit, pin=pin, allow=allow, forbid=forbid)
    require_outputs((("--out", out),), force=force, journal=journal)
    loaded = load_profile(profile)
    beside = None if runtime is None else _beside(runtime, loaded)
    from quantize.feedback import refine
    from sensitivity.profiling.progress import Bars

    options: dict[str, Any] = {"profile": loaded, "other_model": other_model}
    with (
        plan_measure(model, pairs, text, count, length, beside, **options) as measure,
        Bars(quiet=as_json) as bars,
    ):
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
    _say(found, out, as_json=as_json)


def _say(found: Refined, out: Path, *, as_json: bool) -> None:
    losses = {name: found.loss_of(name) for name in ("start", "uniform", "greedy")}
    losses["refined"] = found.best.loss
    latency_us = found.best.measurement.latency_us
    if as_json:
        summary = {"path": str(out), "losses": losses, "evaluations": len(found.trials)}
        timing = {} if latency_us is None else {"latency_us": latency_us}
        typer.echo(json.dumps(summary | timing | {"stopped": found.stopped}))
        return
    console = for_people()
    for name, loss in losses.items():
        console.print(Text(f"{name}: {'no such plan' if loss is None else f'{loss:.6g}'}"))
    if latency_us is not None:
        console.print(Text(f"latency: {latency_us:.0f} µs"))
    console.print(Text(f"{found.stopped}; the plan is in {out}"))


def _beside(runtime: str, profile: Profile) -> dict[str, str]:
    from quantize.feedback import middle_plan

    if runtime != "onnxruntime":
        raise InvalidInputError(Fault("--runtime", unknown(runtime, ("onnxruntime",), "runtime")))
    return middle_plan(profile)
