"""``bitalloc frontier``: the whole trade-off between the objective and a resource."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from allocator import Allocation, Frontier, Profile, Request, frontier, load_profile, sweep
from allocator.contract.errors import require
from allocator.knapsack.tables import WEIGHT_BYTES
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
from api.cli.parsing import Force, amount, require_outputs, write
from api.cli.reach import number
from api.cli.searching import check_patterns, ended_by_time
from api.cli.terminal import for_people, print_json, print_table
from api.cli.watching import LATER_S, Watch
from api.operations.frontier import described


def command(
    profile: ProfileFile,
    resource: Annotated[
        str, typer.Option("--resource", "-r", help="What is traded: a resource, a cost, or `effective_bits`.")
    ] = WEIGHT_BYTES,
    points: Annotated[int, typer.Option(help="Exact plans at this many budgets over the whole range.")] = 9,
    at: Annotated[
        list[str] | None, typer.Option(metavar="AMOUNT", help='Exact plans at these budgets: `"12 MiB"`.')
    ] = None,
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
    out: Annotated[Path | None, typer.Option(help="Write the frontier here, as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the frontier here, as PNG, SVG or PDF.")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Show the whole trade-off: exact plans over the range of a budget, the knee, and what the next step buys.

    Example: `bitalloc frontier out/profile.json -o embedding_distance --points 7 --plot front.png`

    Ctrl-C stops a long search: points that are not proved then say so, and the command ends with 130.
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
    require_outputs((("--out", out), ("--plot", plot)), force=force)
    if plot is not None:
        require("matplotlib", "plot")
        from bitalloc.plots.canvas import require_picture

        require_picture(plot, "--plot")
    wanted = [amount(text) for text in at] if at else points
    loaded = load_profile(profile)
    request = limited(request)
    check_patterns(loaded, request)
    with Watch("frontier", first_s=LATER_S) as watch:
        front, interrupted = until_interrupted(
            lambda: frontier(loaded, resource, wanted, watch.counted, **request.model_dump())
        )
    document = described(front, loaded).model_dump_json()
    if out is not None:
        write(out, document + "\n")
    if plot is not None:
        _draw(front, loaded, request, plot)
    if as_json:
        print_json(document)
    else:
        _show(front, for_people())
        points = points if isinstance(wanted, int) else len(wanted)
        _say_early(front, points, request, interrupted=interrupted)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _draw(front: Frontier, profile: Profile, request: Request, path: Path) -> None:
    from bitalloc.plots import plot_frontier, save

    budgets = [
        {front.resource: usage.limit}
        for answer in front.exact
        if (usage := answer.usage.get(front.resource)) is not None and usage.limit is not None
    ]
    others = {
        name: list(sweep(profile, request.model_copy(update={"solver": name}), budgets))
        for name in ("greedy", "uniform")
    }
    save(plot_frontier(front, others), path)


def _show(front: Frontier, console: Console) -> None:
    unit = f" {front.unit}" if front.unit else ""
    columns = (f"{front.resource}, at most", "used", front.objective_name, "status")
    rows = [_row(answer, front.resource) for answer in front.exact]
    print_table(console, columns, rows, right=columns[:-1])
    knee = f"{number(front.spend[front.knee])}{unit} for {front.objective[front.knee]:.6g}"
    console.print(
        Text(
            f"{front.price.size + 1:,} supported plans from {number(front.spend[0])} to "
            f"{number(front.spend[-1])}{unit}; the knee, farthest from the chord, is at {knee}"
        )
    )


def _say_early(front: Frontier, points: int, request: Request, *, interrupted: bool) -> None:
    early = [answer for answer in front.exact if ended_by_time(answer, answer.solver.seconds, request)]
    if interrupted:
        typer.echo(f"stopped by Ctrl-C: {len(front.exact)} of {points} budgets, the last one unproved")
    elif early:
        typer.echo(
            f"{len(early)} of {points} stopped at the time limit of {request.time_limit_s:g} s for each, unproved; "
            "--time-limit sets another"
        )


def _row(answer: Allocation, resource: str) -> tuple[str, str, str, str]:
    usage = answer.usage.get(resource)
    if usage is None or answer.objective is None:
        reach = answer.achievable.get(resource)
        asked_for = number(reach.limit) if reach is not None and reach.limit is not None else ""
        return asked_for, "", "", str(answer.status)
    return number(usage.limit or 0.0), number(usage.used), f"{answer.objective:.6g}", str(answer.status)
