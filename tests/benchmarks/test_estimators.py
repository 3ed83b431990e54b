"""The known optimum: every method's plans against all plans there are, on a network of three layers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from allocator import CostTable, Fault, InvalidInputError, Profile, solve
from allocator.knapsack.problem import FloatArray
from benchmarks.all_plans import spent_bits, sum_over_plans
from benchmarks.estimators import compare, measured_plans, plan_of
from benchmarks.every_estimator import profile_with_everything, rankings
from benchmarks.models.cache import seeded
from benchmarks.models.digits import cross_entropy, logits, split_digits
from benchmarks.models.trained import Trained, kl_divergence
from quantize import parse_format, round_trip
from sensitivity import ESTIMATORS, Study
from sensitivity.estimators.zd import zd_scores
from tests.sensitivity.studies import make_study, state

FORMATS = ("int2", "int4", "int8")


@pytest.fixture(scope="module")
def small() -> Trained:
    """Random weights, and sixty digits."""
    with seeded(0):
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 10)
        )
    (images, labels), _ = split_digits()
    batches = tuple(zip(images[:60].split(20), labels[:60].split(20), strict=True))
    return Trained("small", model.eval(), batches[:2], batches[2:], cross_entropy, logits)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the benchmark remembers stays out of the repository's own cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITALLOC_CACHE", str(cache))


@pytest.fixture
def truth(small: Trained) -> FloatArray:
    return measured_plans(small, FORMATS)


@pytest.fixture(scope="module")
def profile(small: Trained) -> Profile:
    return profile_with_everything(small, FORMATS)[0]


def test_measured_plans_are_those_of_whole_passes(small: Trained, truth: FloatArray) -> None:
    images, _ = small.held_out[0]
    layers = [module for module in small.model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    originals = [layer.weight.detach().clone() for layer in layers]
    with torch.no_grad():
        reference = small.model(images).double().log_softmax(1)
        for plan in itertools.product(range(3), repeat=3):
            for layer, original, option in zip(layers, originals, plan, strict=True):
                rounded = round_trip(original.numpy(), parse_format(FORMATS[option]))
                layer.weight.copy_(torch.from_numpy(rounded))
            changed = small.model(images).double().log_softmax(1)
            gap = (reference.exp() * (reference - changed)).sum(1).mean().item()
            assert truth[plan] == pytest.approx(gap, rel=1e-3, abs=1e-11)
        for layer, original in zip(layers, originals, strict=True):
            layer.weight.copy_(original)


def test_what_was_measured_is_read_again(
    small: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITALLOC_CACHE", str(tmp_path))
    measured_plans(small, FORMATS)
    (file,) = tmp_path.iterdir()
    kept = np.load(file)
    np.save(file, kept + 1)
    assert np.array_equal(measured_plans(small, FORMATS), kept + 1)
    file.unlink()
    assert np.array_equal(measured_plans(small, FORMATS), kept)


def test_other_digits_are_measured_anew(small: Trained, truth: FloatArray) -> None:
    calibration = measured_plans(small, FORMATS, "calibration")
    assert calibration.shape == truth.shape
    assert not np.array_equal(calibration, truth)


def test_bits_of_plans_are_those_the_allocator_counts(profile: Profile) -> None:
    spent = spent_bits(profile)
    for limit in (3, 4.5, 9):
        allocation = solve(profile, objective="kl", budgets={"effective_bits": limit})
        plan = plan_of(profile, "kl", limit)
        assert allocation.usage["effective_bits"].used == pytest.approx(spent[plan], rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(
    st.floats(3.0, 9.0),
    st.sampled_from(["uniform", "greedy", "exact"]),
    st.sampled_from(["kl", "weight_error", "fisher"]),
)
def test_no_plan_within_the_budget_measures_better_than_the_optimum(
    small: Trained, profile: Profile, bits: float, solver: str, objective: str
) -> None:
    spent, truth = spent_bits(profile), measured_plans(small, FORMATS)
    plan = plan_of(profile, objective, bits, solver)
    optimum = min(
        float(truth[other]) for other in itertools.product(range(3), repeat=3) if spent[other] <= bits
    )
    assert spent[plan] <= bits
    results = compare(profile, truth, [bits], {})
    assert results.optimum == {bits: optimum}
    assert truth[plan] >= optimum
    assert all(row[0] >= 1 for row in results.regret.values())


@pytest.mark.parametrize("objective", ["kl", "weight_error", "fisher"])
def test_plans_of_a_table_are_the_best_by_that_table(profile: Profile, objective: str) -> None:
    predicted = sum_over_plans(np.array(profile.costs[objective].values, dtype=float))
    spent = spent_bits(profile)
    for bits in (3.2, 4, 5, 7):
        best = predicted[spent <= bits].min()
        assert predicted[plan_of(profile, objective, bits)] == pytest.approx(best, rel=1e-9)


def test_every_estimator_of_the_registry_has_a_row(profile: Profile, truth: FloatArray) -> None:
    results = compare(profile, truth, (3.0, 5.0), {})
    known = {"uniform", "greedy", "kl", "gauss_newton", *ESTIMATORS} - {"lim"}  # a chain has no blocks
    assert known <= results.regret.keys()


def test_a_ranking_lowers_what_it_has_last_until_the_plan_fits(small: Trained, truth: FloatArray) -> None:
    profile, _ = profile_with_everything(small, FORMATS)
    ranked = rankings(small, FORMATS)
    assert list(ranked) == ["zd, two levels"]
    spent, budgets = spent_bits(profile), (3.0, 5.0, 6.0, 20.0)
    results = compare(profile, truth, budgets, {}, ranked)
    scores = zd_scores(make_study(small.model, small.calibration, small.loss, FORMATS)).importance
    for bits, regret in zip(budgets, results.regret["zd, two levels"], strict=True):
        plan = tuple(FORMATS.index(option) for option in ranked["zd, two levels"](bits).values())
        assert spent[plan] <= bits
        assert regret == truth[plan] / results.optimum[bits]
        # No layer is above one that the ranking puts before it, and the levels are neighbours.
        assert max(plan) - min(plan) <= 1
        order = np.argsort(scores, kind="stable")
        assert [plan[layer] for layer in order] == sorted(plan)
    assert set(ranked["zd, two levels"](20.0).values()) == {"int8"}


def test_blocks_of_the_network_are_layers_that_keep_the_shape(cnn: Trained) -> None:
    assert list(rankings(cnn, FORMATS)) == ["zd, two levels", "lim, two levels"]


def test_an_estimator_that_the_model_is_not_made_for_says_so(
    small: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(study: Study) -> CostTable:
        raise InvalidInputError(Fault("/model", f"{type(study.model).__name__} has no experts"))

    monkeypatch.setitem(ESTIMATORS, "picky", picky)
    profile, refused = profile_with_everything(small, FORMATS)
    assert refused.keys() == {"picky", "lim"}
    assert refused["picky"] == "/model: Sequential has no experts"
    assert "picky" not in profile.costs


def test_the_kl_table_is_the_measured_kl_of_plans_that_change_one_layer(small: Trained) -> None:
    formats = ("int2", "int4", "fp32")
    truth = measured_plans(small, formats, "calibration")
    values = profile_with_everything(small, formats)[0].costs["kl"].values
    for layer, option in itertools.product(range(3), range(3)):
        plan = tuple(option if index == layer else 2 for index in range(3))
        assert values[layer][option] == pytest.approx(truth[plan], rel=1e-3, abs=1e-11)


def test_the_model_is_as_it_was_afterwards(small: Trained) -> None:
    before = state(small.model)
    measured_plans(small, ("int2", "int3"))
    profile_with_everything(small, FORMATS)
    assert state(small.model) == before


def test_divergence_is_that_of_the_definition() -> None:
    first, second = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    slow = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=first.double()),
        torch.distributions.Categorical(logits=second.double()),
    )
    torch.testing.assert_close(kl_divergence(first, second), slow.mean(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(kl_divergence(first[:, 0], second[:, 0]), slow[:, 0], rtol=1e-12, atol=0)
