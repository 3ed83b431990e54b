"""Plans measured in place against copies of the model, and the model as it was afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from quantize import parse_format, round_trip
from sensitivity.plans.planned import Planned, distance_of_plans
from tests.sensitivity.studies import state


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)).eval()


def data() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(4, 8), torch.randn(2, 8)]


def outputs(model: nn.Module, batch: Tensor) -> Tensor:
    result: Tensor = model(batch)
    return result


def squares(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().sum(1)


def test_distances_are_those_of_a_copy() -> None:
    model, plan = network(), {"0": "int3", "2": "int2-g4"}
    before = state(model)
    made = distance_of_plans(model, data(), outputs, squares)(plan)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for name, text in plan.items():
            weight = changed.get_submodule(name).weight
            weight.copy_(torch.from_numpy(round_trip(weight.numpy(), parse_format(text))))
        rows = torch.cat([squares(model(batch), changed(batch)) for batch in data()])
    assert made == rows.double().mean().item()
    assert state(model) == before


def test_weights_are_rounded_once() -> None:
    model = network()
    planned = Planned(model)
    measures = [distance_of_plans(model, [batch], outputs, squares, planned) for batch in data()]
    measures[0]({"0": "int3"})
    kept = planned.kept["0", "int3"]
    measures[1]({"0": "int3"})
    assert planned.kept == {("0", "int3"): kept}


@pytest.mark.parametrize(
    ("plan", "detail"),
    [
        ({"0": "int3", "9": "int3"}, r"/assignment/9: unknown layer '9'"),
        ({"0": "int3", "2": "int33"}, r"/assignment/2: unknown format 'int33'"),
    ],
)
def test_a_plan_for_another_model_changes_nothing(plan: dict[str, str], detail: str) -> None:
    model = network()
    before = state(model)
    with pytest.raises(InvalidInputError, match=detail):
        distance_of_plans(model, data(), outputs, squares)(plan)
    assert state(model) == before


def test_there_must_be_data_and_a_model_that_does_not_train() -> None:
    with pytest.raises(InvalidInputError, match="/batches: expected at least one batch"):
        distance_of_plans(network(), [], outputs, squares)
    with pytest.raises(InvalidInputError, match="/model: the model is in training mode"):
        distance_of_plans(network().train(), data(), outputs, squares)
