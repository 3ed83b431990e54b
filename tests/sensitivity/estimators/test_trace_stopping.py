"""Probes that go on until every layer is known well enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sensitivity import Study, hessian_trace
from sensitivity.study.tasks import serial
from tests.sensitivity.estimators.trace_cases import drawn, gauss_newton, perceptron, study_of
from tests.sensitivity.studies import make_study, squares


def test_probes_go_on_until_every_layer_is_known_well_enough() -> None:
    study = study_of("perceptron", formats=["int2"])
    made = hessian_trace(study, relative_error=0.05, max_probes=4096)
    values, errors = np.array(made.values), np.array(made.stderr)
    assert (errors <= 0.05 * np.abs(values)).all()
    assert "short of" not in made.meaning
    # Stopping is the only thing that differs from asking for that many probes.
    (count,) = [int(part.split()[0]) for part in made.meaning.split("; ") if part.endswith("probes")]
    assert 8 < count < 4096
    assert hessian_trace(study, probes=count) == made
    before = hessian_trace(study, probes=count - 8)
    assert (np.array(before.stderr) > 0.05 * np.abs(before.values)).any()


def test_a_negative_trace_can_be_known_well_enough() -> None:
    # With a mean in the denominator rather than its absolute value, any negative trace would end the loop at once.
    study = study_of("perceptron", formats=["int2"])
    flipped = replace(study, loss_fn=lambda model, batch: -squares(model, batch))
    up, down = (hessian_trace(item, relative_error=0.1, max_probes=4096) for item in (study, flipped))
    np.testing.assert_allclose(np.array(up.values), -np.array(down.values), rtol=1e-12)
    assert "negative traces, kept as they are: 2 of 2 (0, 2)" in down.meaning
    assert "negative" not in up.meaning


def test_layers_that_fall_short_at_the_last_probe_are_named() -> None:
    made = hessian_trace(study_of("perceptron"), relative_error=1e-6, max_probes=20)
    assert "20 probes" in made.meaning
    assert "short of the relative standard error: 2 of 2 (0, 2)" in made.meaning


def test_progress_goes_on_over_the_rounds() -> None:
    told: list[tuple[str, int, int]] = []
    study = study_of("perceptron", progress=lambda *step: told.append(step))
    hessian_trace(study, probes=3, relative_error=1e-6, max_probes=7)
    assert told == [("hessian_trace", done, 7) for done in range(1, 8)]


def test_the_order_in_which_an_engine_runs_the_probes_does_not_matter() -> None:
    def backwards(study: Study, stage: str, keys: Any, measure: Any) -> Any:
        return list(reversed(serial(study, stage, list(reversed(keys)), measure)))

    for curvature in (hessian_trace, gauss_newton):
        study = make_study(perceptron(), [drawn(5, 3), drawn(3, 3)], squares)
        assert curvature(study, probes=5) == curvature(replace(study, engine=backwards), probes=5)
