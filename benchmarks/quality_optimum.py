"""Searches where the answer is known: every plan of the digits network was measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from allocator import Profile
from allocator.knapsack.problem import FloatArray, IntArray
from benchmarks.all_plans import best_within, spent_bits
from benchmarks.estimators import BUDGETS, FORMATS, compare, measured_plans, plan_of
from benchmarks.every_estimator import profile_with_everything
from benchmarks.evolution import evolve
from benchmarks.models import digits_cnn
from quantize.feedback import refine

__all__ = ["BUDGETS", "regrets", "search_evolution", "search_refine"]
_COUNTS = (20, 60)
_OBJECTIVE = "kl"


def regrets(on: str, seeds: int) -> dict[str, list[float]]:
    """Measure every method at every budget.

    Args:
        on: Digits that plans are measured on, by the searches too: ``held-out`` or ``calibration``. Tables are of
            calibration digits in both cases.
        seeds: Seeds of the evolutionary search; the worst of them is reported, for each budget.

    Returns:
        Method to measured KL over that of the true optimum, one number per budget.
    """
    trained = digits_cnn.load()
    profile, refused = profile_with_everything(trained, FORMATS)
    truth = measured_plans(trained, FORMATS, on)
    found = dict(compare(profile, truth, BUDGETS, refused).regret)
    rows: dict[str, list[float]] = {name: list(values) for name, values in found.items()}
    optimum = [float(truth[best_within(truth, spent_bits(profile), bits)]) for bits in BUDGETS]
    searches = {  # where all plans can be listed, refine draws nothing: its seeds are all the same
        "refine": (search_refine, 1),
        "evolution": (search_evolution, seeds),
    }
    for name, (search, count_of_seeds) in searches.items():
        for at, (bits, best) in enumerate(zip(BUDGETS, optimum, strict=True)):
            traces = [search(profile, truth, bits, seed) for seed in range(count_of_seeds)]
            for count in _COUNTS:
                regret = max(min(trace[:count]) for trace in traces) / best
                rows.setdefault(f"{name}, {count} evaluations", [0.0] * len(BUDGETS))[at] = regret
    return rows


def search_refine(profile: Profile, truth: FloatArray, bits: float, seed: int) -> list[float]:
    """Let ``refine`` search.

    Args:
        profile: Its table ``kl`` is the objective.
        truth: (F, …, F) measured loss of every plan.
        bits: The budget, effective bits.

    Returns:
        Losses in the order of measuring, 60 or fewer.
    """
    columns = list(profile.formats)

    def measure(plan: Mapping[str, str]) -> float:
        return float(truth[tuple(columns.index(name) for name in plan.values())])

    found = refine(
        profile,
        measure,
        max_evaluations=max(_COUNTS),
        patience=max(_COUNTS),
        seed=seed,
        objective=_OBJECTIVE,
        budgets={"effective_bits": bits},
    )
    return [trial.loss for trial in found.trials]


def search_evolution(profile: Profile, truth: FloatArray, bits: float, seed: int) -> list[float]:
    """Let the evolutionary search begin where ``refine`` does.

    Args:
        profile: Its table ``kl`` is the objective.
        truth: (F, …, F) measured loss of every plan.
        bits: The budget, effective bits.

    Returns:
        Losses in the order of measuring, 60 or fewer.
    """
    parents: list[IntArray] = [
        np.array(plan_of(profile, _OBJECTIVE, bits, solver), dtype=np.int64)
        for solver in ("exact", "uniform", "greedy")  # what refine starts from
    ]
    spend = np.array(profile.resources["weight_bytes"].values, dtype=float)
    limit = bits / 8 * sum(layer.parameters or 0 for layer in profile.layers)
    measured = evolve(
        spend,
        limit,
        parents,
        lambda plan: float(truth[tuple(plan.tolist())]),
        evaluations=max(_COUNTS),
        seed=seed,
    )
    return [loss for _, loss in measured]
