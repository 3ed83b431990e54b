"""ZD against a loop over weights, and the table that it gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from allocator import InvalidInputError
from sensitivity import Study, zd
from sensitivity.estimators.zd import share_beyond, zd_scores
from tests.sensitivity.estimators.test_lim import relative_errors
from tests.sensitivity.studies import Blocks, make_study, squares, state


def slow_share(weights: list[torch.Tensor], deviations: float = 1.0) -> float:
    numbers = [float(value) for weight in weights for value in weight.flatten()]
    mean = sum(numbers) / len(numbers)
    deviation = (sum((value - mean) ** 2 for value in numbers) / len(numbers)) ** 0.5
    return sum(value - mean > deviations * deviation for value in numbers) / len(numbers)


def study_of(model: nn.Module) -> Study:
    def unused(*_: object) -> torch.Tensor:
        raise AssertionError("the data must not be looked at")

    return make_study(model, [], unused)


class Stacked(nn.Module):
    """Blocks of two layers each, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6)) for _ in range(3)
        )
        self.blocks.append(nn.ReLU())
        self.head = nn.Linear(6, 5)


def test_scores_and_table_against_a_loop_over_weights() -> None:
    study = study_of(Stacked())
    found, made = zd_scores(study), zd(study)
    weights = [layer.weight.detach() for layer in study.layers]
    shares = [slow_share(weights[start : start + 2]) for start in (0, 2, 4, 6)]
    # A block without layers has no score; the head is a block of its own.
    assert found.blocks == ("blocks.0", "blocks.1", "blocks.2", "head")
    np.testing.assert_allclose(found.scores, shares, rtol=1e-12)
    rows = np.array([0, 0, 1, 1, 2, 2, 3])
    np.testing.assert_allclose(found.importance, 1 - np.array(shares)[rows], rtol=1e-12)
    np.testing.assert_allclose(
        made.values, (1 - np.array(shares)[rows])[:, None] * relative_errors(study), rtol=1e-6
    )
    assert made.stderr is None
    assert found.stderr is None
    assert len(set(found.scores)) == 4


def test_without_blocks_every_layer_is_one() -> None:
    torch.manual_seed(0)
    study = study_of(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 6)))
    expected = [slow_share([layer.weight.detach()]) for layer in study.layers]
    np.testing.assert_allclose(zd_scores(study).scores, expected, rtol=1e-12)
    merged = zd_scores(study_of(nn.Sequential(study.model)), blocks=["0"])
    np.testing.assert_allclose(
        merged.scores, [slow_share([layer.weight.detach() for layer in study.layers])], rtol=1e-12
    )


def test_shares_by_hand() -> None:
    # Mean 2, deviation √(56/5) = 3.35: only the 8 lies above 5.35.
    assert share_beyond(lambda: [torch.tensor([0.0, 0.0, 0.0]), torch.tensor([2.0, 8.0])]) == 0.2
    assert share_beyond(lambda: [torch.tensor([0.0, 0.0, 0.0, 2.0, 8.0])], deviations=0) == 0.2
    # Only what lies above the mean counts.
    assert share_beyond(lambda: [torch.tensor([0.0, 0.0, 0.0, -2.0, -8.0])]) == 0
    assert share_beyond(lambda: [torch.ones(4)]) == 0


def test_of_normal_weights_the_expected_share_lies_beyond_one_deviation() -> None:
    weights = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    # 1 - Φ(1) = 0.15866, with a standard error of √(0.16 · 0.84 / 200 000) = 0.0008.
    assert share_beyond(lambda: [weights]) == pytest.approx(0.15866, abs=0.0025)


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=40), st.integers(1, 8))
def test_scale_does_not_matter_and_parts_are_taken_together(numbers: list[int], factor: int) -> None:
    whole = torch.tensor(numbers, dtype=torch.float64)
    share = share_beyond(lambda: [whole], deviations=0.9)
    cut = len(numbers) // 2 or 1
    assert share == pytest.approx(slow_share([whole], 0.9), abs=0)
    assert share_beyond(lambda: [whole[:cut], whole[cut:]], deviations=0.9) == share
    assert share_beyond(lambda: [2**factor * whole], deviations=0.9) == share
    assert share <= 1 / (1 + 0.9**2) + 1e-12  # Cantelli's inequality


@given(
    st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.sampled_from([0, 100])
)
def test_the_share_of_slices_is_that_of_the_whole_weight(
    seed: int, rows: int, columns: int, size: int, shift: float
) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) + shift
    wide = weight.double().numpy()
    expected = float((wide > wide.mean() + wide.std()).mean())
    assert share_beyond(lambda: weight.split(size)) == pytest.approx(expected, abs=1e-12)


def test_the_model_is_as_it_was() -> None:
    study = study_of(Stacked())
    before = state(study.model)
    assert zd(study) == zd(study)
    assert state(study.model) == before


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused_with_the_layer(bad: float) -> None:
    model = Blocks()
    model.blocks[1][0].weight.data[0, 0] = bad
    with pytest.raises(
        InvalidInputError, match=r"/layers/blocks\.1\.0: has weights that are NaN or infinite"
    ):
        zd(make_study(model, [], squares))
