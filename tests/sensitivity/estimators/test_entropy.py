"""Entropies against a loop over elements and levels, and the groups that follow."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from allocator import InvalidInputError
from sensitivity import entropy
from sensitivity.estimators.entropy import conditional_entropy, partition
from tests.sensitivity.studies import Blocks, make_study, squares, state


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BATCHES = [random(3, 7, 4), random(2, 9, 4, seed=2)]


def slow_weights(values: list[float], levels: int) -> list[list[float]]:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    step = 6 / (levels - 1)
    rows = []
    for value in values:
        normed = (value - mean) / deviation
        powers = [math.exp(-((normed - (-3 + m * step)) ** 2) / step**2) for m in range(levels)]
        rows.append([power / sum(powers) for power in powers])
    return rows


def slow_entropy(given: Tensor, then: Tensor, levels: int) -> float:
    first, second = (slow_weights(item.flatten().tolist(), levels) for item in (given, then))
    joint: Counter[tuple[int, int]] = Counter()
    for one, other in zip(first, second, strict=True):
        for m, n in np.ndindex(levels, levels):
            joint[m, n] += one[m] * other[n] / len(first)
    marginal = [sum(joint[m, n] for n in range(levels)) for m in range(levels)]
    return -sum(p * math.log(p / marginal[m]) for (m, _), p in joint.items())


def test_entropies_against_a_loop_over_elements_and_levels() -> None:
    model = Blocks().double()
    found = entropy(make_study(model, BATCHES, squares), levels=5)
    samples = []
    for sample in (item for batch in BATCHES for item in batch):
        outputs = [model.stem(sample)]
        for block in model.blocks:
            outputs.append(block(outputs[-1]))
        samples.append([slow_entropy(*outputs[index : index + 2], 5) for index in (1, 2)])
    values = np.array(samples)
    np.testing.assert_allclose(found.entropy_nats, values.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.stderr_nats, values.std(axis=0, ddof=1) / np.sqrt(5), rtol=1e-6)
    assert found.threshold_nats == pytest.approx(values.mean())  # the median of two


def test_independent_activations_have_the_entropy_of_one_and_copies_have_less() -> None:
    first, second = random(40_000), random(40_000, seed=2)
    # In the limit of many elements, knowing an independent activation tells nothing.
    weights = np.array(slow_weights(second[:4000].tolist(), 8)).mean(axis=0)
    alone = -float((weights * np.log(weights)).sum())
    assert conditional_entropy(first, second, 8) == pytest.approx(alone, abs=0.02)
    copied = conditional_entropy(first, first, 8)
    assert 0 < copied < alone - 0.3
    # Scale, shift and direction are no information.
    assert conditional_entropy(first, 5 - 3 * first, 8) == pytest.approx(copied, rel=1e-6)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=30), st.integers(2, 9))
def test_entropy_lies_between_zero_and_the_logarithm_of_the_levels(numbers: list[int], levels: int) -> None:
    values = torch.tensor(numbers, dtype=torch.float64)
    found = conditional_entropy(values, values.flip(0), levels)
    assert -1e-9 <= found <= math.log(levels) + 1e-9


def slow_partition(entropies: list[float], threshold: float, most: int) -> list[list[int]]:
    """The longest group that meets the condition, or the block alone, again and again."""
    left, groups = list(range(len(entropies) + 1)), []
    while left:
        fitting = [
            left[:size]
            for size in range(1, min(most, len(left)) + 1)
            if size == 1 or sum(entropies[index] for index in left[: size - 1]) > (size - 1) * threshold
        ]
        groups.append(fitting[-1])
        left = left[len(fitting[-1]) :]
    return groups


@given(
    st.lists(st.integers(0, 8), min_size=0, max_size=10),
    st.integers(0, 8),
    st.integers(1, 4),
)
def test_groups_are_the_longest_that_meet_the_condition(
    entropies: list[int], threshold: int, most: int
) -> None:
    made = partition(np.array(entropies, dtype=float), threshold, most)
    assert [list(group) for group in made] == slow_partition(
        [float(item) for item in entropies], threshold, most
    )
    assert [index for group in made for index in group] == list(range(len(entropies) + 1))


def test_groups_of_blocks_and_their_layers() -> None:
    study = make_study(Blocks().double(), BATCHES, squares)
    together = entropy(study, threshold_nats=0)
    assert together.groups == (("blocks.0", "blocks.1", "blocks.2"),)
    assert together.layers == (("blocks.0.0", "blocks.1.0", "blocks.2.0"),)
    pairs = entropy(study, threshold_nats=0, most=2)
    assert pairs.groups == (("blocks.0", "blocks.1"), ("blocks.2",))
    assert pairs.layers == (("blocks.0.0", "blocks.1.0"), ("blocks.2.0",))
    assert entropy(study, threshold_nats=10).groups == (("blocks.0",), ("blocks.1",), ("blocks.2",))
    assert entropy(study, most=1).groups == (("blocks.0",), ("blocks.1",), ("blocks.2",))


def test_neighbours_of_different_shape_are_never_in_one_group() -> None:
    study = make_study(Blocks().double(), BATCHES, squares)
    found = entropy(study, blocks=["blocks.[12]", "head"], threshold_nats=0)
    assert found.groups == (("blocks.1", "blocks.2"), ("head",))
    assert np.isnan(found.entropy_nats).tolist() == [False, True]
    unpaired = entropy(study, blocks=["blocks.2", "head"])
    assert unpaired.groups == (("blocks.2",), ("head",))
    assert unpaired.threshold_nats == 0


def test_a_block_that_changes_its_input_in_place_makes_no_difference() -> None:
    found = []
    for in_place in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(in_place), nn.Linear(4, 4))).double()
        study = make_study(model, BATCHES, squares)
        found.append(entropy(study, blocks=["0", "1"]).entropy_nats)
    assert np.array_equal(*found)


def test_a_single_sample_has_no_standard_error() -> None:
    assert entropy(make_study(Blocks().double(), [random(1, 7, 4)], squares)).stderr_nats is None


@pytest.mark.parametrize("breaks", [False, True])
def test_the_model_is_as_it_was(breaks: bool) -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        losses = squares(model, batch)
        if breaks:
            raise RuntimeError("broke")
        return losses

    study = make_study(Blocks().double(), BATCHES, loss)
    before = state(study.model)
    if breaks:
        with pytest.raises(RuntimeError, match="broke"):
            entropy(study)
    else:
        first, second = entropy(study), entropy(study)
        assert np.array_equal(first.entropy_nats, second.entropy_nats)
        assert first.groups == second.groups
    assert state(study.model) == before


def test_options_and_models_that_cannot_be_used_are_refused() -> None:
    study = make_study(Blocks().double(), BATCHES, squares)
    with pytest.raises(InvalidInputError, match="/levels: expected at least 2 levels, got 1"):
        entropy(study, levels=1)
    with pytest.raises(InvalidInputError, match="/most: expected groups of at least 1 block, got 0"):
        entropy(study, most=0)
    with pytest.raises(InvalidInputError, match="/blocks: expected at least 2 blocks, found 1"):
        entropy(study, blocks=["stem"])
    with pytest.raises(InvalidInputError, match=r"/blocks/blocks\.2: does not run; leave it out"):
        entropy(make_study(Blocks(order=(0, 1)).double(), BATCHES, squares))
    with pytest.raises(InvalidInputError, match="/batches/0: holds no samples"):
        entropy(make_study(Blocks().double(), [BATCHES[0][:0]], squares))


def test_an_activation_that_is_not_finite_names_the_block() -> None:
    model = Blocks().double()
    model.blocks[1][0].bias.data[0] = torch.nan
    with pytest.raises(InvalidInputError, match=r"/blocks/blocks\.1: its activation is NaN or infinite"):
        entropy(make_study(model, BATCHES, squares))
