"""Options that the commands which plan have in common, and the request that they add up to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from allocator import SOLVERS, Request, make_request
from api.cli.parsing import amount, lists, objects, pairs

#: What a search takes at most where nobody said; the answer names it where it was hit.
DEFAULT_TIME_LIMIT_S = 300.0

_SOLVERS = "; ".join(f"`{name}`: {entry.summary}" for name, entry in SOLVERS.items())

ProfileFile: TypeAlias = Annotated[Path, typer.Argument(help="Profile, as written by `bitalloc profile`.")]
Budgets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--budget", "-b", metavar="NAME=AMOUNT", help='Limit: `weight_bytes="12 MiB"`, `effective_bits=4.25`.'
    ),
]
Objectives: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--objective", "-o", help="Table to minimise; several in falling order of importance."),
]
Limits: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="JSON",
        help='Any other limit: `{"table": "weight_bytes", "layers": ["gpu0.*"], "max": "20 GiB"}`.',
    ),
]
Caution: TypeAlias = Annotated[
    float, typer.Option(metavar="Z", help="Standard errors that count against every cost.")
]
Pins: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--pin", metavar="LAYER=FORMAT", help="Decide layers; globs are welcome."),
]
Allowed: TypeAlias = Annotated[
    list[str] | None, typer.Option("--allow", metavar="LAYER=F1,F2", help="Only these formats.")
]
Forbidden: TypeAlias = Annotated[
    list[str] | None, typer.Option("--forbid", metavar="LAYER=F1,F2", help="Not these formats.")
]
SolverName: TypeAlias = Annotated[str, typer.Option("--solver", help=_SOLVERS)]
Gap: TypeAlias = Annotated[
    float, typer.Option("--gap", help="Relative distance to the optimum that is good enough.")
]
TimeLimit: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        metavar="SECONDS",
        help=f"Stop with what is found and proved by then: {DEFAULT_TIME_LIMIT_S:g} when absent. A service "
        "has limits of its own.",
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the answer as JSON and nothing else.")]


def asked(
    *,
    budget: list[str] | None = None,
    objective: list[str] | None = None,
    limit: list[str] | None = None,
    caution: float = 0.0,
    pin: list[str] | None = None,
    allow: list[str] | None = None,
    forbid: list[str] | None = None,
    solver: str = "auto",
    gap: float = 0.0,
    time_limit: float | None = None,
) -> Request:
    """Put the options together.

    Args:
        budget: ``NAME=AMOUNT`` texts.
        objective: Tables, the most important first.
        limit: JSON objects.
        caution: Standard errors that count against every cost.
        pin: ``LAYER=FORMAT`` texts.
        allow: ``LAYER=F1,F2`` texts.
        forbid: ``LAYER=F1,F2`` texts.
        gap: Relative gap that is good enough.
        time_limit: Seconds.

    Returns:
        The request.

    Raises:
        InvalidInputError: An option cannot be read.
    """
    order = objective or []
    return make_request(
        {
            "objective": order[0] if len(order) == 1 else tuple(order) or None,
            "caution": caution,
            "budgets": {name: amount(text) for name, text in pairs("--budget", budget or []).items()},
            "limits": objects("--limit", limit or []),
            "pin": pairs("--pin", pin or []),
            "allow": lists("--allow", allow or []),
            "forbid": lists("--forbid", forbid or []),
            "solver": solver,
            "gap": gap,
            "time_limit_s": time_limit,
        }
    )


def limited(request: Request) -> Request:
    """Give a request the default time limit where nobody said one.

    Returns:
        The request, with a limit.
    """
    if request.time_limit_s is not None:
        return request
    return request.model_copy(update={"time_limit_s": DEFAULT_TIME_LIMIT_S})
