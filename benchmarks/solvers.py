"""The exact solver against whole-model MIP solvers on the same instances, in one run.

``python -m benchmarks.solvers [--time-limit SECONDS] [--only TEXT]``. Every measurement is a process of its own, so
that peak memory is its own; times are medians of at least five solves (fewer where these take seconds) and include
building the model, not imports. Each MIP solver runs twice: at its defaults, and asked for a relative gap of 1e-9, the
proof that ``exact`` gives. Processor time, of all threads, tells how far a busy machine slowed the clock. A time that
ran into the limit says so, and the factor is then at least what is printed. For frontiers the MIP solvers are timed on
three of the points and extrapolated to all.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.instances import INSTANCES
from benchmarks.whole_models import WHOLE

PROOF_GAP = 1e-9
_COLUMNS = (
    "instance", "solver", "gap asked", "time ms", "processor ms", "exact is faster by", "says", "objective", "true gap",
    "peak MB",
)  # fmt: skip


def main(
    time_limit: Annotated[
        float, typer.Option(help="Seconds that a whole-model solver may take per solve.")
    ] = 30.0,
    only: Annotated[str, typer.Option(help="Only instances whose name holds this text.")] = "",
    out: Annotated[str, typer.Option(help="Write the measurements here, as JSON.")] = "",
) -> None:
    """Print one table, row by row as it is measured."""
    console = Console(width=150)
    console.print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    table, everything = Table(*_COLUMNS), []
    for name in INSTANCES:
        if only not in name:
            continue
        rows = list(_measured(name, time_limit, console))
        table.add_section()
        everything += rows
        for row in rows:
            table.add_row(*_cells(row, rows[0]))
    console.print(table)
    if out:
        with open(out, "w", encoding="utf-8") as file:
            json.dump(everything, file, indent=1)


def _measured(name: str, time_limit_s: float, console: Console) -> Iterator[dict[str, Any]]:
    wanted: list[tuple[str, float | None]] = [("exact", PROOF_GAP)]
    wanted += [(solver, gap) for solver in WHOLE for gap in (None, PROOF_GAP)]
    for solver, gap in wanted:
        asked = json.dumps({"instance": name, "solver": solver, "gap": gap, "time_limit_s": time_limit_s})
        command = [sys.executable, "-m", "benchmarks.measure_solver", asked]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            console.print(f"{name}, {solver}: {done.stderr.strip().splitlines()[-1]}")
            continue
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        yield row
        console.print(f"{name}, {solver}, gap {gap}: {row['seconds']:.4g} s", style="dim")


def _cells(row: dict[str, Any], exact: dict[str, Any]) -> tuple[str, ...]:
    late = row["seconds"] >= row["time_limit_s"] and row is not exact and not row["extrapolated"]
    factor = row["seconds"] / exact["seconds"]
    objective, best = row["objective"], exact["objective"]
    return (
        row["instance"],
        row["solver"],
        "default" if row["gap"] is None else f"{row['gap']:g}",
        f"{row['seconds'] * 1e3:,.1f}" + (" (limit)" if late else " (from 3)" if row["extrapolated"] else ""),
        f"{row['processor_s'] * 1e3:,.1f}",
        "" if row is exact else f"{'≥ ' if late else ''}{factor:,.0f} ×",
        row["says"],
        "none" if objective is None else f"{objective:.10g}",
        "" if objective is None or best is None else f"{(objective - best) / abs(best):.1e}",
        f"{row['peak_mb']:,.0f}",
    )


if __name__ == "__main__":
    typer.run(main)
