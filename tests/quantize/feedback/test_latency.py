"""Time that is fed back: tables that are wrong by a scale and a constant, until plans keep the real budget."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from quantize.feedback import Measurement, median_us, refine
from quantize.feedback.latency import line, with_line
from tests.quantize.feedback.problems import FORMATS, coupled


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_line_is_found_and_a_disturbed_measurement_does_not_move_it(scale: float) -> None:
    summed = np.linspace(100, 200, 9)
    measured = scale * summed + 50
    measured[2] *= 3
    found, constant = line(summed.tolist(), measured.tolist(), near=float(measured[5]))
    assert found == pytest.approx(scale)
    assert constant == pytest.approx(50)


def test_one_plan_moves_the_constant_only_and_no_constant_is_below_zero() -> None:
    assert line([100.0], [150.0], near=1.0) == (1.0, 50.0)
    assert line([100.0], [40.0], near=1.0) == (0.4, 0.0)
    assert line([100.0, 101.0], [50.0, 90.0], near=60.0, apart=5.0) == (0.5, 0.0)


def test_fused_kernels_are_corrected_too() -> None:
    profile, _ = coupled(2)
    fused = profile.model_validate(
        profile.model_dump()
        | {"fusions": [{"name": "f", "layers": ["l0", "l1"], "resources": {"latency_us": [1, 2, None, 4]}}]}
    )
    corrected = with_line(fused, "latency_us", 2.0, 7.0)
    assert corrected.fusions[0].resources["latency_us"] == (2.0, 4.0, None, 8.0)
    assert corrected.resources["latency_us"].constant == 7.0
    before = np.array(profile.resources["latency_us"].values)
    assert np.array_equal(np.array(corrected.resources["latency_us"].values), 2 * before)


@pytest.mark.parametrize(("scale", "constant"), [(1.6, 300.0), (0.4, 0.0), (1.0, 900.0)])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_plans_meet_the_real_budget(scale: float, constant: float, noise: float) -> None:
    profile, loss = coupled()
    table = np.array(profile.resources["latency_us"].values)
    random = np.random.default_rng(1)

    def clock(plan: Mapping[str, str]) -> float:
        columns = [list(FORMATS).index(name) for name in plan.values()]
        return float(
            (constant + scale * table[np.arange(5), columns].sum()) * (1 + noise * random.standard_normal())
        )

    budget = constant + scale * float(0.5 * table.min(axis=1).sum() + 0.5 * table.max(axis=1).sum())
    found = refine(
        profile,
        lambda plan: Measurement(loss(plan), latency_us=clock(plan)),
        max_evaluations=25,
        budgets={"latency_us": budget},
    )
    assert found.best.measurement.latency_us is not None
    assert found.best.measurement.latency_us <= budget
    columns = [list(FORMATS).index(name) for name in found.best.assignment.values()]
    corrected = found.profile.resources["latency_us"]
    foreseen = corrected.constant + np.array(corrected.values)[np.arange(5), columns].sum()
    assert foreseen == pytest.approx(found.best.measurement.latency_us, rel=0.1)


def test_medians_are_of_the_runs_after_the_warm_up() -> None:
    calls: list[int] = []
    assert 0 < median_us(lambda: calls.append(0), runs=5, warm_up=2) < 1e5
    assert len(calls) == 7
