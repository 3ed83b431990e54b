"""``bitalloc solve``: a profile and budgets in, a plan out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from allocator import (
    Allocation,
    Note,
    Profile,
    Request,
    export_mps,
    load_profile,
)
from allocator.contract.allocation import Level
from allocator.contract.errors import require
from allocator.contract.status import Status
from api.cli.comparing import none_better
from api.cli.interrupting import INTERRUPTED
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
from api.cli.parsing import Force, require_outputs, write
from api.cli.reach import against, number, reached
from api.cli.searching import search
from api.cli.server import Server
from api.cli.terminal import for_people, print_json, print_table
from api.cli.watching import Watch

#: More layers than this are counted rather than listed.
_LISTED = 60


def command(
    context: typer.Context,
    profile: ProfileFile,
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
    out: Annotated[Path | None, typer.Option(help="Write the allocation here, as JSON.")] = None,
    mps: Annotated[
        Path | None,
        typer.Option(help="Write the whole model here, as MPS, to check the answer with any solver."),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Find the best plan within your budgets, and prove it.

    Example: `bitalloc solve out/profile.json -o embedding_distance -b effective_bits=3.25 --pin "*.query=int8-g64"`

    `bitalloc --server http://127.0.0.1:8000 solve …` lets a service plan; it keeps profile and plan.

    Ends with 1 when no plan keeps the budgets; the message then says what each budget would have to be.

    Ctrl-C stops a long search: the best plan so far is shown and written, with what is proved of it, and the command
    ends with 130.
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
    require_outputs((("--out", out), ("--mps", mps)), force=force)
    loaded = load_profile(profile)
    if mps is not None:
        write(mps, export_mps(loaded, **request.model_dump()).text, "--mps")
    if context.obj.url is None:
        allocation, interrupted = search(loaded, limited(request))
    else:
        allocation, interrupted = _asked_of(context.obj, loaded, request), False
    document = allocation.model_dump_json(indent=2)
    if out is not None:
        write(out, document + "\n")
    if as_json:
        print_json(document)
    else:
        show(allocation, for_people())
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if allocation.assignment is None:
        raise typer.Exit(1)


def _asked_of(server: Server, profile: Profile, request: Request) -> Allocation:
    require("httpx2", "client")
    from bitalloc.client import Client

    asked = {name: getattr(request, name) for name in request.model_fields_set}
    with (
        Watch(f"waiting for {server.url}", plain=False),
        Client(server.url or "", api_key=server.api_key) as client,
    ):
        answer = client.allocate(profile, **asked)
    return Allocation.model_validate(answer.model_dump(exclude={"id"}))


def show(allocation: Allocation, console: Console) -> None:
    """Print an allocation for people.

    Args:
        console: Where to print.
    """
    # Text rather than str: names may hold brackets, which rich would read as markup.
    console.print(Text(str(allocation.status), "bold").append(f"  {allocation.advice}", ""))
    if allocation.assignment is None:
        for name, reach in allocation.achievable.items():
            console.print(Text(reached(name, reach, alone=len(allocation.achievable) == 1)))
        show_notes(allocation.notes, console)
        return
    proved = none_better(allocation.objective, allocation.bound)
    took = f"{allocation.solver.name}, {allocation.solver.seconds * 1e3:.1f} ms"
    console.print(Text(f"{allocation.objective_name} = {allocation.objective:.6g}{proved} ({took})"))
    for name, usage in allocation.usage.items():
        price = (
            f"; one more {usage.unit or 'unit'} buys {usage.shadow_price:.3g}" if usage.shadow_price else ""
        )
        console.print(Text(f"{name}: {against(usage, number(usage.used), 'of', 'at least')}{price}"))
    levels = {level.name: level for level in allocation.levels}
    for name, value in allocation.then.items():
        console.print(Text(f"then {name} = {value:.6g}{_unproved(levels.get(name))}"))
    if allocation.left_out:
        console.print(Text(f"no time was left for: {', '.join(allocation.left_out)}"))
    if allocation.fusions:
        console.print(Text(f"fused: {', '.join(allocation.fusions)}"))
    show_notes(allocation.notes, console)
    _show_layers(allocation.assignment, console)


def show_notes(notes: Iterable[Note], console: Console) -> None:
    """Print what else a reader should know, warnings first.

    Args:
        console: Where to print.
    """
    for note in sorted(notes, key=lambda note: note.severity != "warning"):
        console.print(Text(str(note), "yellow" if note.severity == "warning" else ""))


def _unproved(level: Level | None) -> str:
    if level is None or level.status is Status.OPTIMAL:
        return ""
    return ", not proved" + none_better(level.objective, level.bound)


def _show_layers(assignment: Mapping[str, str], console: Console) -> None:
    if len(assignment) <= _LISTED:
        print_table(console, ("layer", "format"), assignment.items())
        return
    counts = Counter(assignment.values()).most_common()
    rows = [(name, str(count)) for name, count in counts]
    print_table(console, ("format", "layers"), rows, right=("layers",))
