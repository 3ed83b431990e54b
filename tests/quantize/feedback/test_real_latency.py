"""The real clock: plans that ONNX Runtime runs within a budget, from a table in the wrong unit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from allocator import load_profile
from quantize import apply
from quantize.feedback import Measurement, median_us, refine
from quantize.feedback.measurement import digest
from tests.quantize.models import dequantized, exported

WIDTHS = (512, 2048, 1024)
FORMATS = {"int2-g32": 2, "int4-g32": 4, "int8-g32": 8, "fp32": 32}


class Stack(nn.Module):
    """Lookups, and Linear layers large enough to be seen by a clock."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, WIDTHS[0])
        self.up = nn.Linear(WIDTHS[0], WIDTHS[1])
        self.down = nn.Linear(WIDTHS[1], WIDTHS[2])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.down(nn.functional.gelu(self.up(self.embed(tokens))))
        return result


@pytest.mark.rare  # a clock that others slow down proves nothing: run it on a quiet machine
def test_a_plan_meets_a_latency_that_the_table_knows_nothing_of(tmp_path: Path) -> None:
    import onnxruntime

    model = Stack().eval()
    names, tokens = ["up", "down"], np.array([[1, 2, 3]])
    source = exported(model, tmp_path / "fp32.onnx", ["embed", *names])
    reference = dequantized(model, {}, tokens)

    def clock(plan: Mapping[str, str]) -> float:
        path = apply(source, dict(plan), "onnxruntime", path=tmp_path / f"{digest(plan)}.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        path.unlink()
        return median_us(lambda: session.run(None, {"tokens": tokens}), runs=40)

    def measure(plan: Mapping[str, str]) -> Measurement:
        loss = float(np.square(dequantized(model, dict(plan), tokens) - reference).mean())
        return Measurement(loss + 1e-9, latency_us=clock(plan))

    sizes = np.array([model.get_submodule(name).weight.numel() for name in names])
    bits = np.array(list(FORMATS.values()))
    profile = load_profile(
        {
            "formats": {name: {"weight_bits": width} for name, width in FORMATS.items()},
            "layers": [{"name": name} for name in names],
            "costs": {"error": {"values": np.outer(sizes, 4.0**-bits).tolist()}},
            "resources": {"latency_us": {"values": np.outer(sizes, bits).tolist(), "unit": "us"}},
        }
    )
    fast, slow = (clock(dict.fromkeys(names, name)) for name in ("int4-g32", "fp32"))
    budget = (max(fast, slow) + min(fast, slow)) / 2
    found = refine(profile, measure, max_evaluations=16, patience=16, budgets={"latency_us": budget})
    assert found.best.measurement.latency_us is not None
    assert found.best.measurement.latency_us <= budget
    assert found.best.loss == min(trial.loss for trial in found.trials if trial.fits)
