"""Every solver on the same instances, in one run: time, objective, and what it could prove.

``python -m benchmarks.solvers [--time-limit SECONDS]``. Times are medians; a row that ran into the limit says so.
"""

from __future__ import annotations

import statistics
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from allocator.problem import Problem
from allocator.solvers import SOLVERS
from allocator.solvers.outcome import Effort, Outcome, relative_gap
from benchmarks.instances import published_instance, random_instance

_RUNS_S = 0.5  # solves shorter than this are repeated
_RUNS = 5


def main(
    time_limit: Annotated[
        float, typer.Option(help="Seconds that a whole-model solver may take per instance.")
    ] = 20.0,
) -> None:
    """Print one table."""
    instances = {
        "225 × 8": random_instance(225, 8),
        "1,000 × 8": random_instance(1000, 8),
        "10,000 × 6": random_instance(10_000, 6),
        "50,000 × 8": random_instance(50_000, 8),
        "Q-Palette 3.25 bits, 224 × 15": published_instance("qpalette_llama31_8b", "3.25 bits"),
    }
    table = Table("instance", "solver", "time s", "status", "objective", "proved gap", "above the best")
    for name, problem in instances.items():
        if problem is None:
            continue
        table.add_section()
        results = {solver: _timed(solver, problem, time_limit) for solver in _solvers(problem)}
        best = min(problem.objective(out.choice) for _, out in results.values() if out.choice is not None)
        for solver, (seconds, outcome) in results.items():
            objective = None if outcome.choice is None else problem.objective(outcome.choice)
            table.add_row(
                name,
                solver,
                f"{seconds:.4f}" + (" (limit)" if solver != "exact" and seconds >= time_limit else ""),
                outcome.status,
                "–" if objective is None else f"{objective:.9g}",
                "–" if objective is None else f"{relative_gap(objective, outcome.bound):.1e}",
                "–" if objective is None else f"{objective / best - 1:.1e}",
            )
    Console(width=130).print(table)


def _solvers(problem: Problem) -> list[str]:
    # Building 400,000 binaries in Python takes the whole-model solvers longer than any limit worth waiting for.
    return ["exact", "greedy"] if problem.units > 20_000 else ["exact", "highs", "pulp", "cpsat", "greedy"]


def _timed(solver: str, problem: Problem, time_limit_s: float) -> tuple[float, Outcome]:
    run, seconds = SOLVERS[solver].load(), []
    while True:
        start = time.perf_counter()
        outcome = run(problem, Effort(time_limit_s=time_limit_s))
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > _RUNS_S or len(seconds) >= _RUNS:
            return statistics.median(seconds), outcome


if __name__ == "__main__":
    typer.run(main)
