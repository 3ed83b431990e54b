"""A stack of large Linear layers on ONNX Runtime, batch 1, one thread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from benchmarks.models.cache import seeded
from benchmarks.quality_speed import Plan, Runtime
from quantize import apply
from quantize.backends.onnxruntime.export import export_onnx
from quantize.backends.onnxruntime.latency import times_in_turns_us
from quantize.feedback.measurement import digest
from sensitivity import latency_us, measured, profile_model, weight_bytes
from sensitivity.plans.planned import distance_of_plans

FORMATS = ("int2-g32", "int4-g32", "int8-g32", "fp32")
_WIDTHS = (1024, 4096, 1024, 4096, 1024, 2048, 512)
_ROUNDS = 20


def onnxruntime_stack(folder: Path, widths: Sequence[int] = _WIDTHS, rounds: int = _ROUNDS) -> Runtime:
    """Export the stack, and measure its tables.

    Args:
        folder: For files.
        widths: Inputs of the layers, and the outputs of the last.
        rounds: Runs of each file in one turn.

    Returns:
        The model; its loss is ‖Δ‖²/‖y‖² on random inputs.
    """
    with seeded(0):
        layers = [
            module for first, second in pairwise(widths) for module in (nn.Linear(first, second), nn.GELU())
        ]
        model = nn.Sequential(*layers[:-1]).eval()
        batches = [torch.randn(32, widths[0])]
    profile = profile_model(
        model,
        batches,
        lambda net, batch: net(batch).square().mean(1),
        FORMATS,
        {
            "distance": partial(
                measured, name="distance", outputs=_outputs, distance=_relative, meaning="‖Δ‖²/‖y‖²"
            )
        },
        resources={"weight_bytes": weight_bytes, "latency_us": partial(latency_us, batch=1)},
    )
    names = [layer.name for layer in profile.layers]
    query = torch.randn(1, widths[0], generator=torch.Generator().manual_seed(1))
    source = export_onnx(
        model, {"input": query}, folder / "fp32.onnx", layers=names, dynamic={"input": {0: "batch"}}
    )

    def file_of(plan: Plan) -> Path:
        path = folder / f"{digest(plan)}.onnx"
        return path if path.exists() else apply(source, dict(plan), "onnxruntime", path=path)

    def times_us(plans: Sequence[Plan]) -> list[float]:
        files = [file_of(plan) for plan in plans]
        return times_in_turns_us(files, {"input": query.numpy()}, rounds=rounds)

    return Runtime(profile, "distance", distance_of_plans(model, batches, _outputs, _relative), times_us)


def _outputs(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = model(batch)
    return result


def _relative(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first - second).double().square().sum(1) / first.double().square().sum(1)
