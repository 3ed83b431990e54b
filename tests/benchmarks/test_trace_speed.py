"""Traces timed on a small encoder: what is said about noise follows from the probes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks import trace_speed
from sensitivity import Study
from tests.sensitivity.studies import Blocks, make_study, squares


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Study:
    def peer(study: Study, index: int, probes: int) -> tuple[float, float]:
        assert 0 <= index < len(study.layers)
        return 1.0, 0.5 * probes

    def outputs(model: nn.Module, batch: Tensor) -> Tensor:
        made: Tensor = model(batch)
        return made

    kinds = dict(trace_speed._KINDS)
    name = "all at once, Gauss-Newton"
    gauss_newton = kinds[name][1].func  # type: ignore[attr-defined]
    metric = kinds[name][1].keywords["metric"]  # type: ignore[attr-defined]

    def probe(study: Study, batch: int, number: int) -> np.ndarray:
        return gauss_newton(study, batch, number, outputs, metric)

    kinds[name] = ("Gauss-Newton", probe)
    monkeypatch.setattr(trace_speed, "_KINDS", kinds)
    monkeypatch.setattr(trace_speed, "peers", lambda: {"PyHessian, Hessian": peer})
    return make_study(Blocks(), [torch.linspace(-1, 1, 20).reshape(5, 4)], squares)


def test_equal_probes_cost_a_peer_every_layer_with_its_setup(study: Study) -> None:
    made = trace_speed.show_traces(study, 4, console := Console(record=True, width=150))
    printed = console.export_text()
    # Five layers, each one second to set up and one second for each of four probes.
    assert "25.00" in printed
    assert made is not None
    assert made > 25.0 / 60
    assert all(name in printed for name in trace_speed._KINDS)


def test_without_peers_there_is_no_ratio(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_speed, "peers", dict)
    assert trace_speed.show_traces(study, 2, Console(quiet=True)) is None
