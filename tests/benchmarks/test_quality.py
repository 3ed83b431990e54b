"""`refine` where the true optimum is known: what the issue of the loop asks for, on the digits network."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from benchmarks.all_plans import best_within, spent_bits
from benchmarks.estimators import BUDGETS, FORMATS, measured_plans
from benchmarks.models.trained import Trained
from benchmarks.quality_optimum import search_evolution, search_refine
from sensitivity import kl, profile_model


@pytest.mark.long
def test_refine_comes_to_the_optimum_and_ahead_of_the_rival(cnn: Trained) -> None:
    profile = profile_model(
        cnn.model, cnn.calibration, cnn.loss, FORMATS, {"kl": partial(kl, logits=cnn.logits)}
    )
    truth = measured_plans(cnn, FORMATS, "calibration")
    spent = spent_bits(profile)
    regrets = []
    for bits in BUDGETS:
        best = float(truth[best_within(truth, spent, bits)])
        ours, theirs = (search(profile, truth, bits, 0) for search in (search_refine, search_evolution))
        assert ours[0] == theirs[0]
        assert min(ours[:20]) <= 1.15 * best
        assert min(ours) <= min(theirs)
        regrets.append(min(ours) / best)
    assert max(regrets) <= 1.02
    assert np.exp(np.log(regrets).mean()) <= 1.005
