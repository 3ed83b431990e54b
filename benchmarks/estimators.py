"""What each estimator's plans are worth: their measured KL against the true optimum at the same size.

``python -m benchmarks.estimators [--on calibration] [--out out]``. See ``docs/benchmarks.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from allocator import Profile, solve
from allocator.knapsack.problem import FloatArray
from benchmarks.all_plans import Plan, all_plans, best_within, spent_bits
from benchmarks.every_estimator import KL, Ranking, profile_with_everything, rankings
from benchmarks.models import digits_cnn
from benchmarks.models.cache import cached, one_thread, source
from benchmarks.models.trained import Trained, kl_divergence
from quantize import parse_format
from sensitivity.profiling.progress import Bars
from sensitivity.study.study import Progress, silent

FORMATS = ("int2", "int3", "int4", "int5", "int8")
BUDGETS = (2.25, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)


@dataclass(frozen=True, eq=False)
class Results:
    """What the benchmark found.

    Attributes:
        optimum: Budget in effective bits to the smallest measured KL within it, nats.
        regret: Method to the measured KL of its plan over the optimum, one number per budget.
        refused: Estimator to why it cannot be used on this model.
    """

    optimum: Mapping[float, float]
    regret: Mapping[str, Sequence[float]]
    refused: Mapping[str, str]


def main(
    on: Annotated[
        Literal["held-out", "calibration"], typer.Option(help="Digits that plans are measured on.")
    ] = "held-out",
    out: Annotated[Path | None, typer.Option(help="Folder to write estimators.json to.")] = None,
) -> None:
    """Print one table: a row per method, a column per budget, 1 is the true optimum."""
    trained = digits_cnn.load()
    with one_thread(), Bars() as bars:
        truth = measured_plans(trained, FORMATS, on, bars)
        profile, refused = profile_with_everything(trained, FORMATS, bars)
    results = compare(profile, truth, BUDGETS, refused, rankings(trained, FORMATS))
    console = Console(width=130)
    console.print(_shown(results, on))
    for name, reason in results.refused.items():
        console.print(f"{name} is not made for this model: {reason}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        found = {
            "measured_on": on,
            "formats": FORMATS,
            "budgets": BUDGETS,
            "optimum": list(results.optimum.values()),
        }
        text = json.dumps(
            found | {"regret": dict(results.regret), "refused": dict(results.refused)}, indent=2
        )
        (out / "estimators.json").write_text(text + "\n")


def measured_plans(
    trained: Trained, formats: Sequence[str], on: str = "held-out", progress: Progress = silent
) -> FloatArray:
    """Measure every plan of a classifier, or read what was measured before.

    Args:
        formats: Options of every layer, F of them.
        on: ``held-out`` or ``calibration``.
        progress: Told after every plan.

    Returns:
        (F, …, F) mean KL of every plan, nats.
    """
    batches = trained.held_out if on == "held-out" else trained.calibration
    images = torch.cat([batch[0] for batch in batches])
    code = [source(kl_divergence), repr(trained.model), torch.__version__]
    ingredients = [code, dict(trained.model.state_dict()), images, list(formats)]

    def write(path: Path) -> None:
        parsed = [parse_format(name) for name in formats]
        plans = all_plans(trained.model, images, parsed, kl_divergence, progress=progress)
        with path.open("wb") as file:
            np.save(file, plans)

    plans: FloatArray = np.load(cached(f"{trained.name}_plans", ".npy", ingredients, write))
    return plans


def compare(
    profile: Profile,
    truth: FloatArray,
    budgets: Sequence[float],
    refused: Mapping[str, str],
    ranked: Mapping[str, Ranking] | None = None,
) -> Results:
    """Solve for every table at every budget, and look the plans up.

    Args:
        profile: Its tables; ``kl`` is the one that ``uniform`` and ``greedy`` go by.
        truth: (F, …, F) measured KL of every plan.
        budgets: Effective bits.
        refused: Passed on.
        ranked: Plans that come from no table.

    Returns:
        Measured KL of each plan over that of the optimum.
    """
    spent = spent_bits(profile)
    optimum = {bits: float(truth[best_within(truth, spent, bits)]) for bits in budgets}
    methods = {name: (KL, name) for name in ("uniform", "greedy")} | {
        name: (name, "exact") for name in profile.costs
    }
    regret = {
        method: [float(truth[plan_of(profile, objective, bits, solver)]) / optimum[bits] for bits in budgets]
        for method, (objective, solver) in methods.items()
    }
    regret |= {
        name: [float(truth[_options(profile, plan(bits))]) / optimum[bits] for bits in budgets]
        for name, plan in (ranked or {}).items()
    }
    return Results(optimum, regret, refused)


def plan_of(profile: Profile, objective: str, bits: float, solver: str = "exact") -> Plan:
    """Solve for one table at one budget.

    Args:
        bits: The budget, in effective bits.

    Returns:
        The plan, one option per layer.
    """
    allocation = solve(profile, objective=objective, budgets={"effective_bits": bits}, solver=solver)
    assert allocation.assignment is not None, allocation.advice
    return _options(profile, allocation.assignment)


def _options(profile: Profile, assignment: Mapping[str, str]) -> Plan:
    options = list(profile.formats)
    return tuple(options.index(assignment[layer.name]) for layer in profile.layers)


def _shown(results: Results, on: str) -> Table:
    title = f"measured KL on {on} digits ÷ the true optimum at the same effective bits"
    shown = Table("method", *(f"{bits:g}" for bits in results.optimum), "mean", title=title)
    shown.add_row(
        "optimum, nats", *(f"{value:.2e}" for value in results.optimum.values()), "", end_section=True
    )
    for method, row in sorted(results.regret.items(), key=lambda item: _geometric_mean(item[1])):
        shown.add_row(method, *(f"{value:.3f}" for value in row), f"{_geometric_mean(row):.3f}")
    return shown


def _geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.log(values).mean()))


if __name__ == "__main__":
    typer.run(main)
