"""``bitalloc verify``: a plan measured beside its baselines, as a gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from allocator import Fault, InvalidInputError, load_profile
from api.cli.calibration import Length, ModelFolder, OtherModel, Pairs, TextFile
from api.cli.measuring import Count, plan_measure
from api.cli.options import AsJson
from api.cli.parsing import Force, require_outputs, write
from api.cli.plans import PlanFile, read_plan
from api.cli.terminal import print_json


def command(
    context: typer.Context,
    plan: PlanFile,
    profile: Annotated[Path, typer.Option(help="The profile that it was planned for.")],
    objective: Annotated[str, typer.Option("--objective", "-o", help="Table that baselines are planned by.")],
    model: ModelFolder = None,
    other_model: OtherModel = False,
    pairs: Pairs = None,
    text: TextFile = None,
    count: Count = 24,
    length: Length = 128,
    tolerance: Annotated[
        float, typer.Option(help="Relative amount by which a baseline may measure better.")
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="Write the report here: Markdown, and JSON beside it.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Measure a plan beside the best uniform and greedy plan in its own budget, and full precision.

    Example: `bitalloc verify plan.json --profile profile.json -o embedding_distance --model ./my-encoder`

    With `--model FOLDER --text FILE` the plan is one of a causal language model.

    Ends with 1 when a baseline measures better than the plan.
    """  # noqa: DOC501 - the docstring is the help text
    if out is not None and out.suffix == ".json":
        raise InvalidInputError(
            Fault("--out", f"{str(out)!r} is the name of the JSON beside the page; use .md")
        )
    if out is not None:
        require_outputs((("--out", out), ("--out", out.with_suffix(".json"))), force=force)
    loaded, allocation = load_profile(profile), read_plan(plan, context.obj)
    from quantize.feedback import as_markdown, verify

    options: dict[str, Any] = {"profile": loaded, "other_model": other_model}
    with plan_measure(model, pairs, text, count, length, **options) as measure:
        report = verify(loaded, allocation, measure, objective=objective, tolerance=tolerance)
    page, document = as_markdown(report), report.model_dump_json(indent=2) + "\n"
    if out is not None:
        write(out, page)
        write(out.with_suffix(".json"), document)
    if as_json:
        print_json(document.rstrip("\n"))
    else:
        typer.echo(page, nl=False)
    if not report.passed:
        raise typer.Exit(1)
