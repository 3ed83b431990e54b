"""Inputs of layers as rows, against inputs rounded by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from quantize import parse_format
from quantize.rounding.nearest import round_inputs
from sensitivity import discover
from sensitivity.rows.activations import ActivationRef, find_activations, rounding_input, rows_of
from tests.sensitivity.models.test_layers import Tied
from tests.sensitivity.studies import state


def rows(model: nn.Module, *exclude: str) -> list[ActivationRef]:
    return list(find_activations(model, discover(model, exclude)))


def test_layers_that_multiply_have_inputs_and_lookups_have_none() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.ReLU(), nn.Conv1d(7, 4, 1))
    assert [row.name for row in rows(model)] == ["1.input", "3.input"]
    assert [row.layer for row in rows(model)] == ["1", "3"]


def test_the_input_of_a_tied_head_is_its_own_row() -> None:
    assert [(row.name, row.layer) for row in rows(Tied())] == [
        ("middle.input", "middle"),
        ("head.input", "embed"),
    ]


def test_layers_that_stay_out_have_no_input() -> None:
    assert [row.name for row in rows(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "0")] == ["1.input"]


@pytest.mark.parametrize("name", ["int2", "int4-g4", "uint3-g5", "fp16", "fp32"])
@pytest.mark.parametrize(
    ("module", "shape", "flat"),
    [
        (nn.Linear(10, 3), (2, 5, 10), (10, 10)),
        (nn.Linear(10, 3), (10,), (1, 10)),
        (nn.Conv1d(4, 3, 2), (2, 4, 5), (2, 20)),
        (nn.Conv1d(4, 3, 2), (4, 5), (1, 20)),
        (nn.Conv2d(4, 3, 2), (2, 4, 5, 5), (2, 100)),
    ],
    ids=str,
)
def test_inputs_are_rounded_row_by_row(
    module: nn.Module, shape: tuple[int, ...], flat: tuple[int, int], name: str
) -> None:
    model = nn.Sequential(module)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (row,) = rows(model)
    fmt = parse_format(name)
    by_hand = torch.from_numpy(round_inputs(inputs.reshape(flat).numpy(), fmt)).reshape(shape)
    assert rows_of(module, inputs) == flat
    with torch.no_grad():
        before = inputs.clone()
        with rounding_input(row, fmt):
            assert torch.equal(
                model(inputs), module(by_hand) if name == "fp32" else model_of(module)(by_hand)
            )
        assert torch.equal(inputs, before)


def model_of(module: nn.Module) -> nn.Module:
    """The same layer without the hook."""
    copy = type(module).__new__(type(module))
    copy.__dict__ = {**module.__dict__, "_forward_pre_hooks": {}}
    return copy


def fails(_: nn.Module, __: tuple[Tensor, ...]) -> None:
    raise RuntimeError("broke")


def test_the_hook_is_gone_afterwards_also_when_the_model_raises() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = state(model)
    with rounding_input(rows(model)[0], parse_format("int2")):
        model(torch.ones(1, 2))
    assert state(model) == before
    handle = model[1].register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="broke"), rounding_input(rows(model)[0], parse_format("int2")):
        model(torch.ones(1, 2))
    handle.remove()
    assert state(model) == before


def test_inputs_that_are_not_finite_name_the_row() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    detail = r"/layers/0\.input: what flows here cannot be stored in int2: holds NaN or infinity"
    with pytest.raises(InvalidInputError, match=detail), rounding_input(rows(model)[0], parse_format("int2")):
        model(torch.tensor([[1.0, float("nan")]]))


def test_no_tokens_are_no_trouble() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with rounding_input(rows(model)[0], parse_format("int2")):
        assert model(torch.ones(0, 2)).shape == (0, 2)
