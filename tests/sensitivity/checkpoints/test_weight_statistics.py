"""Statistics of slices against the definition on the whole weight, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from quantize import parse_format, round_trip
from sensitivity.checkpoints.weight_statistics import Inputs, rounding

FORMATS = tuple(parse_format(name) for name in ("int2-g4", "uint4", "fp16"))


def slices_of(weight: Tensor, rows: int) -> list[Tensor]:
    return list(weight.split(rows))


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
