"""What estimators share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from quantize import parse_format, round_trip
from sensitivity import discover
from sensitivity.study.study import derived_seed, mean_and_error, replaced, rounded, silent, table


@pytest.mark.parametrize("name", ["int2", "int4-g4", "uint3-g5", "fp16", "bf16", "fp32"])
@pytest.mark.parametrize(
    "module", [nn.Linear(8, 3), nn.Conv1d(4, 3, 2), nn.Conv2d(4, 3, 2), nn.Embedding(3, 8)], ids=repr
)
def test_rounding_is_that_of_the_backends(module: nn.Module, name: str) -> None:
    (layer,) = discover(nn.Sequential(module))
    before = layer.weight.detach().clone()
    result = rounded(layer, parse_format(name))
    assert np.array_equal(result.numpy(), round_trip(before.numpy(), parse_format(name)))
    assert torch.equal(layer.weight, before)
    assert not result.requires_grad


def test_rounded_weights_share_no_memory_with_the_original_even_when_equal() -> None:
    (layer,) = discover(nn.Sequential(nn.Linear(8, 3)))
    rounded(layer, parse_format("fp32")).zero_()
    assert layer.weight.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_rounded_weights_have_the_precision_of_the_model(dtype: torch.dtype) -> None:
    (layer,) = discover(nn.Sequential(nn.Linear(8, 3)).to(dtype))
    assert rounded(layer, parse_format("int4")).dtype == dtype


def test_a_replaced_weight_is_computed_with_and_then_back_bit_for_bit() -> None:
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    (layer,) = discover(model)
    address, content = layer.weight.data_ptr(), layer.weight.detach().clone()
    with replaced(layer, torch.ones(2, 3)):
        assert model(torch.ones(1, 3)).tolist() == [[3, 3]]
    assert layer.weight.data_ptr() == address
    assert torch.equal(layer.weight, content)
    assert layer.weight.requires_grad


def _break_off(model: nn.Module) -> None:
    (layer,) = discover(model)
    with replaced(layer, torch.ones(2, 3)):
        raise RuntimeError("broke")


def test_a_replaced_weight_is_back_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    address = model[0].weight.data_ptr()
    with pytest.raises(RuntimeError, match="broke"):
        _break_off(model)
    assert model[0].weight.data_ptr() == address


def test_a_replaced_weight_reaches_every_module_that_is_tied_to_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    (layer,) = discover(model)
    with replaced(layer, torch.eye(2) * 3):
        assert model(torch.ones(1, 2)).tolist() == [[9, 9]]


def test_seeds_differ_between_tasks_and_not_between_runs() -> None:
    tasks = [(seed, layer, probe) for seed in range(3) for layer in ("a", "b", "a1") for probe in range(12)]
    seeds = [derived_seed(*task) for task in tasks]
    assert len(set(seeds)) == len(tasks)
    assert seeds == [derived_seed(*task) for task in tasks]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_parts_of_a_task_are_not_run_together() -> None:
    assert derived_seed(1, "a", "bc") != derived_seed(1, "ab", "c")
    assert derived_seed(1, 23) != derived_seed(12, 3)


def test_seeds_are_those_of_earlier_versions() -> None:
    # Published profiles were made with them.
    assert derived_seed(0, "hessian_trace", "fc", 0) == 1519590740464364970


def test_mean_and_standard_error_are_numpys() -> None:
    samples = np.random.default_rng(0).normal(size=(7, 2, 3))
    mean, error = mean_and_error(samples)
    np.testing.assert_allclose(mean, samples.mean(axis=0), rtol=1e-12)
    assert error is not None
    np.testing.assert_allclose(error, np.sqrt(samples.var(axis=0, ddof=1) / 7), rtol=1e-12)


def test_two_samples_by_hand() -> None:
    # mean 2, deviations ±1, variance 2 / (2 - 1), standard error √(2 / 2)
    mean, error = mean_and_error(np.array([1.0, 3.0]))
    assert (mean, error) == (2, 1)


def test_a_single_sample_has_no_standard_error() -> None:
    mean, error = mean_and_error(np.array([[1.0, 3.0]]))
    assert mean.tolist() == [1, 3]
    assert error is None


def test_tables_keep_every_digit() -> None:
    values = np.array([[1 / 3, -2e-300]])
    made = table(values, None, "what it means")
    assert made.values == ((1 / 3, -2e-300),)
    assert made.stderr is None
    assert made.meaning == "what it means"
    assert table(values, np.array([[0.0, 0.1]]), "").stderr == ((0.0, 0.1),)


def test_silence() -> None:
    assert silent("stage", 1, 2) is None
