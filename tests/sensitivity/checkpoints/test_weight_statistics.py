"""Statistics of slices against the definition on the whole weight, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from quantize import parse_format, round_trip
from sensitivity.checkpoints.weight_statistics import Inputs, output_mse, rounding, zd

FORMATS = tuple(parse_format(name) for name in ("int2-g4", "uint4", "fp16"))


def slices_of(weight: Tensor, rows: int) -> list[Tensor]:
    return list(weight.split(rows))


@given(
    st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.sampled_from([0, 100])
)
def test_the_share_beyond_one_deviation_is_that_of_the_whole_weight(
    seed: int, rows: int, columns: int, size: int, shift: float
) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) + shift
    wide = weight.double().numpy()
    expected = float((wide > wide.mean() + wide.std()).mean())
    assert zd(lambda: slices_of(weight, size)) == pytest.approx(expected, abs=1e-12)


@given(
    arrays(np.float32, array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-8, 8, width=16))
)
def test_the_share_is_at_most_a_half(weight: np.ndarray) -> None:
    assert 0 <= zd(lambda: [torch.from_numpy(weight)]) <= 0.5


def test_no_weight_is_beyond_the_deviation_of_equal_weights() -> None:
    assert zd(lambda: [torch.full((3, 3), 0.1)] * 2) == 0


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 2)])
def test_rounding_a_weight_in_slices(shape: tuple[int, ...], rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator)
    inputs = torch.randn(40, 6, generator=generator).double()
    counts = torch.tensor([3, 0, 1, 7, 2])
    found = rounding(lambda: slices_of(weight, rows), FORMATS, Inputs((inputs.T @ inputs).float(), counts))
    assert found.norm == pytest.approx(float(weight.double().square().sum()), rel=1e-12)
    for column, fmt in enumerate(FORMATS):
        error = torch.from_numpy(round_trip(weight.numpy(), fmt) - weight.numpy()).double().flatten(1)
        change = sum(float((error @ row).square().sum()) for row in inputs)  # token by token
        looked_up = sum(
            float(error[token].square().sum()) for token in range(5) for _ in range(counts[token])
        )
        assert found.squared[column] == pytest.approx(float(error.square().sum()), rel=1e-6)
        assert found.output[column] == pytest.approx(change + looked_up, rel=1e-5)


def test_without_inputs_there_is_no_change_of_outputs() -> None:
    assert rounding(lambda: [torch.randn(3, 4)], FORMATS).output.tolist() == [0, 0, 0]


def test_the_proxy_is_the_squared_change_of_the_outputs() -> None:
    generator = torch.Generator().manual_seed(0)
    error, inputs = torch.randn(3, 5, generator=generator), torch.randn(7, 5, generator=generator)
    expected = float((inputs.double() @ error.double().T).square().sum())
    assert output_mse(error, inputs.T @ inputs) == pytest.approx(expected, rel=1e-5)
