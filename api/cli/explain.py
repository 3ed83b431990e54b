"""``bitalloc explain``: why a plan is as it is, and how sure it is."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from allocator import Explanation, Move, Reach, Reason, Stability, explain_request, load_profile
from allocator.analysis.explain import wanted_layers
from api.cli.comparing import beside_plan
from api.cli.interrupting import INTERRUPTED, until_interrupted
from api.cli.options import (
    Allowed,
    AsJson,
    Budgets,
    Caution,
    Forbidden,
    Gap,
    Limits,
    Objectives,
    Pins,
    ProfileFile,
    SolverName,
    TimeLimit,
    asked,
    limited,
)
from api.cli.reach import number
from api.cli.searching import check_patterns, with_reason
from api.cli.solve import show
from api.cli.terminal import for_people, print_json, print_table
from api.cli.watching import LATER_S, Watch

#: Layers that are listed as worth more measurement.
_MEASURE = 10


def command(
    profile: ProfileFile,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", "-l", help="Explain these layers; globs are welcome.")
    ] = None,
    resamples: Annotated[
        int, typer.Option(help="Solve again over this many resampled tables to see how sure the plan is.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    budget: Budgets = None,
    objective: Objectives = None,
    limit: Limits = None,
    caution: Caution = 0.0,
    pin: Pins = None,
    allow: Allowed = None,
    forbid: Forbidden = None,
    solver: SolverName = "auto",
    gap: Gap = 0.0,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Say why a plan is as it is: prices, next changes, alternatives of a layer, baselines, conflicts, stability.

    Example: `bitalloc explain out/profile.json -o embedding_distance -b effective_bits=3.25 --layer "*.4.*.query"`

    Ends with 1 when no plan keeps the budgets; the answer then says what would have to give way.
    """  # noqa: DOC501 - the docstring is the help text
    request = asked(
        budget=budget,
        objective=objective,
        limit=limit,
        caution=caution,
        pin=pin,
        allow=allow,
        forbid=forbid,
        solver=solver,
        gap=gap,
        time_limit=time_limit,
    )
    request = limited(request)
    loaded, layers = load_profile(profile), tuple(layer or ())
    wanted_layers(loaded, layers)
    check_patterns(loaded, request)
    with Watch("explain", first_s=LATER_S) as watch:
        why, interrupted = until_interrupted(
            lambda: explain_request(loaded, request, layers, resamples, seed, watch.counted, watch.solving)
        )
        seconds = watch.seconds()
    allocation = with_reason(why.allocation, request, seconds, interrupted=interrupted)
    why = why.model_copy(update={"allocation": allocation})
    if as_json:
        print_json(why.model_dump_json(indent=2))
    else:
        _show(why, for_people())
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if why.allocation.assignment is None:
        raise typer.Exit(1)


def _show(why: Explanation, console: Console) -> None:
    show(why.allocation, console)
    for title, move in (("next upgrade", why.next_upgrade), ("next downgrade", why.next_downgrade)):
        if move is not None:
            console.print(Text(f"{title}: {_moved(move, why.allocation.objective_name)}"))
    for name, baseline in why.baselines.items():
        console.print(Text(f"{name}: {beside_plan(baseline, why.allocation.objective)}"))
    if why.left_out:
        console.print(Text(f"no time was left for: {', '.join(why.left_out)}"))
    if why.conflict is not None:
        console.print(Text(f"cannot all be kept: {', '.join(why.conflict.together)}"))
        for name, reach in why.conflict.relaxations.items():
            console.print(Text(f"would be enough: {_relaxed(name, reach)}"))
    for reason in why.reasons:
        _show_alternatives(reason, why.allocation.objective_name, console)
    if why.stability is not None:
        console.print(_sureness(why.stability))


def _moved(move: Move, objective: str) -> str:
    changes = ", ".join(f"{name} to {chosen}" for name, chosen in move.changes.items())
    spends = "".join(f", {name} {amount:+,.6g}" for name, amount in move.spend.items() if amount)
    return f"{changes}: {objective} {move.objective:+.3g}{spends}"


def _relaxed(name: str, reach: Reach) -> str:
    above, below = reach.nearest_above, reach.nearest_below
    ways = []
    if reach.limit is not None and above is not None and "nearest_above" not in reach.bounds:
        ways.append(f"at most {number(above)} {reach.unit}".rstrip())
    if reach.at_least is not None and below is not None and "nearest_below" not in reach.bounds:
        ways.append(f"at least {number(below)} {reach.unit}".rstrip())
    return f"{name} of {' or '.join(ways)}"


def _show_alternatives(reason: Reason, objective: str, console: Console) -> None:
    others = [name for name in reason.together if name != reason.layer]
    title = f"{reason.layer}{f' with {chr(44).join(others)}' if others else ''}"
    columns = ("format", objective, *reason.options[0].spend, "reduced cost", "best plan with it", "")
    rows = []
    for option in reason.options:
        shown = [option.objective, *option.spend.values(), option.reduced_cost, option.best_with]
        cells = ["" if value is None else f"{value:,.6g}" for value in shown]
        rows.append((option.format, *cells, *[""] * (len(columns) - 2 - len(cells)), option.verdict))
    console.print(Text(title, "italic"))
    print_table(console, columns, rows, right=columns[1:-1])


def _sureness(sure: Stability) -> Text:
    lines = [
        f"the same plan in {sure.kept:.0%} of {sure.resamples} resamples; objective ± {sure.objective_stderr:.3g}, "
        f"{sure.regret:.3g} worse than the best of a resample on average"
    ]
    least = sorted(sure.layers, key=lambda layer: layer.kept)[:_MEASURE]
    unsure = [layer for layer in least if layer.kept < 1]
    lines += [f"  {layer.layer}: {layer.format} in {layer.kept:.0%}" for layer in unsure]
    if sure.measure_next:
        lines.append(f"measure next: {', '.join(sure.measure_next[:_MEASURE])}")
    return Text("\n".join(lines))
