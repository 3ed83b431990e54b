"""Rounding errors of weights, by hand and by the definition."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from quantize import round_trip
from sensitivity import weight_error
from tests.sensitivity.studies import Blocks, make_study, squares, state


def test_one_weight_by_hand() -> None:
    # 5 becomes 4 in mxfp4 (half-way between 4 and 6, and 4 is even), 0 stays 0: an error of 1, a part in 25 of 25.
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[5.0, 0.0]]))
    study = make_study(model, [], squares, ["mxfp4"])
    assert weight_error(study).values == ((1.0,),)
    assert weight_error(study, relative=True).values == ((1 / 25,),)
    assert weight_error(study).stderr is None


def test_errors_are_those_of_the_rounding() -> None:
    study = make_study(Blocks(), [], squares)
    before = state(study.model)
    plain = [layer.weight.detach().numpy() for layer in study.layers]
    expected = [[np.square(round_trip(item, fmt) - item).sum() for fmt in study.formats] for item in plain]
    np.testing.assert_allclose(weight_error(study).values, expected, rtol=1e-6)
    shares = np.array(expected) / [[np.square(item).sum()] for item in plain]
    np.testing.assert_allclose(weight_error(study, relative=True).values, shares, rtol=1e-6)
    assert state(study.model) == before


def test_a_layer_of_zeros_has_no_error() -> None:
    model = nn.Sequential(nn.Linear(2, 1))
    nn.init.zeros_(model[0].weight)
    assert weight_error(make_study(model, [], squares, ["int2"]), relative=True).values == ((0.0,),)
