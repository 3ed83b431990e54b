"""A latency budget on ONNX Runtime, batch 1: foreseen by a corrected table, held against the clock."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from allocator import Profile, total
from benchmarks.models.cache import seeded
from quantize import apply
from quantize.feedback import Measurement, median_us, refine
from quantize.feedback.measurement import digest
from quantize.onnx_export import export_onnx
from sensitivity import measured, profile_model
from sensitivity.planned import distance_of_plans
from sensitivity.resources import latency_us, weight_bytes

_FORMATS = ("int2-g32", "int4-g32", "int8-g32", "fp32")
_WIDTHS = (1024, 4096, 1024, 4096, 1024, 2048, 512)
_SHARES = (0.25, 0.5, 0.75)  # of the way from the fastest format for all to full precision
_RUNS = 60


def latency_budget(evaluations: int) -> dict[str, object]:
    """Plan a model of large Linear layers for budgets between the fastest uniform plan and full precision.

    Args:
        evaluations: Plans that the search may measure, for each budget.

    Returns:
        What was foreseen and measured, µs, and the loss beside that of the best uniform plan within the same latency.
    """
    with seeded(0):
        layers = [
            module for first, second in pairwise(_WIDTHS) for module in (nn.Linear(first, second), nn.GELU())
        ]
        model = nn.Sequential(*layers[:-1]).eval()
        batches = [torch.randn(32, _WIDTHS[0])]
    profile = profile_model(
        model,
        batches,
        lambda net, batch: net(batch).square().mean(1),
        _FORMATS,
        {
            "distance": partial(
                measured, name="distance", outputs=_outputs, distance=_relative, meaning="‖Δ‖²/‖y‖²"
            )
        },
        resources={"weight_bytes": weight_bytes, "latency_us": partial(latency_us, batch=1)},
    )
    with tempfile.TemporaryDirectory() as folder:
        return _budgets(model, profile, batches, Path(folder), evaluations)


def _budgets(
    model: nn.Module, profile: Profile, batches: list[torch.Tensor], folder: Path, evaluations: int
) -> dict[str, object]:
    names = [layer.name for layer in profile.layers]
    query = torch.randn(1, _WIDTHS[0], generator=torch.Generator().manual_seed(1))
    source = export_onnx(
        model, {"input": query}, folder / "fp32.onnx", layers=names, dynamic={"input": {0: "batch"}}
    )
    distance = distance_of_plans(model, batches, _outputs, _relative)

    def clock(plan: Mapping[str, str]) -> float:
        path = apply(source, dict(plan), "onnxruntime", path=folder / f"{digest(plan)}.onnx")
        try:
            return _timed(path, query.numpy())
        finally:
            path.unlink()

    uniform = {name: dict.fromkeys(names, name) for name in _FORMATS}
    times = {name: clock(plan) for name, plan in uniform.items()}
    losses = {name: distance(plan) for name, plan in uniform.items()}
    rows = []
    fastest, slowest = min(times.values()), times["fp32"]
    for share in _SHARES:
        budget_us = fastest + share * (slowest - fastest)
        found = refine(
            profile,
            lambda plan: Measurement(distance(plan) + 1e-12, latency_us=clock(plan)),
            max_evaluations=evaluations,
            objective="distance",
            budgets={"latency_us": budget_us},
        )
        plan = found.best.assignment
        again = float(np.median([clock(plan) for _ in range(3)]))
        within = {name: losses[name] for name in _FORMATS if times[name] <= budget_us}
        rows.append(
            {
                "budget_us": budget_us,
                "foreseen_us": total(found.profile, "latency_us", plan),
                "foreseen_by_the_table_as_it_was_us": total(profile, "latency_us", plan),
                "measured_us": found.best.measurement.latency_us,
                "measured_again_us": again,
                "loss": found.best.loss,
                "loss_of_best_uniform_within": min(within.values()),
                "best_uniform_within": min(within, key=lambda name: within[name]),
                "evaluations": len(found.trials),
                "plan": list(plan.values()),
            }
        )
    return {"uniform_us": times, "uniform_loss": losses, "budgets": rows}


def _timed(path: Path, query: np.ndarray) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: query}
    return median_us(lambda: session.run(None, feed), runs=_RUNS)


def _outputs(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = model(batch)
    return result


def _relative(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first - second).double().square().sum(1) / first.double().square().sum(1)
