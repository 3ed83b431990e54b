"""LIM against a loop over tokens, and the table that it gives."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from quantize import round_trip
from sensitivity import Study, lim
from sensitivity.estimators.lim import lim_scores
from tests.sensitivity.studies import Blocks, make_study, squares, state


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BATCHES = [random(3, 5, 4), random(2, 7, 4, seed=2)]


def slow_turns(model: Any, batches: list[Tensor]) -> np.ndarray:
    """(N, K): one minus the cosine of every token, in float64, token by token."""
    samples = []
    for batch in batches:
        for sample in batch.double():
            row = []
            hidden = model.stem(sample)
            for block in model.blocks:
                after = block(hidden)
                cosines = [
                    float((x @ y) / ((x @ x).sqrt() * (y @ y).sqrt()))
                    for x, y in zip(hidden.detach(), after.detach(), strict=True)
                ]
                row.append(1 - sum(cosines) / len(cosines))
                hidden = after
            samples.append(row)
    return np.array(samples)


def relative_errors(study: Study) -> np.ndarray:
    """(L, F): weight by weight, in float64."""
    made = np.empty((len(study.layers), len(study.formats)))
    for row, layer in enumerate(study.layers):
        weight = layer.weight.detach().numpy()
        for column, fmt in enumerate(study.formats):
            pairs = list(zip(weight.ravel().tolist(), round_trip(weight, fmt).ravel().tolist(), strict=True))
            made[row, column] = sum((one - other) ** 2 for one, other in pairs) / sum(
                one**2 for one, _ in pairs
            )
    return made


def test_scores_and_table_against_a_loop_over_tokens() -> None:
    study = make_study(Blocks(), BATCHES, squares)
    found = lim_scores(study)
    made = lim(study)
    errors = relative_errors(study)
    samples = slow_turns(Blocks().double(), BATCHES)
    means, stderr = samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    assert found.blocks == ("blocks.0", "blocks.1", "blocks.2")
    np.testing.assert_allclose(found.scores, means - 1, rtol=1e-5)
    np.testing.assert_allclose(found.stderr, stderr, rtol=1e-5)
    # Stem and head are outside of the blocks and have the importance of the last, which turns its input most.
    assert means.argmax() == 2
    rows = [2, 0, 1, 2, 2]
    np.testing.assert_allclose(made.values, means[rows][:, None] * errors, rtol=1e-5)
    np.testing.assert_allclose(made.stderr, stderr[rows][:, None] * errors, rtol=1e-5, atol=1e-12)
    assert made.meaning.startswith("1 - cosine between what goes into")


class Turns(nn.Module):
    """Blocks that turn the plane by an angle each."""

    def __init__(self, *degrees: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in degrees)
        for block, angle in zip(self.blocks, np.radians(degrees), strict=True):
            turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            block.weight.data = 3 * torch.tensor(turn, dtype=torch.float32)

    def forward(self, inputs: Tensor) -> Tensor:
        for block in self.blocks:
            inputs = block(inputs)
        return inputs


def test_blocks_that_turn_by_known_angles() -> None:
    study = make_study(Turns(0, 60, 90, 180), [random(4, 2)], squares, ["fp32"])
    found = lim_scores(study)
    np.testing.assert_allclose(found.scores, [-1, -0.5, 0, 1], atol=1e-6)
    np.testing.assert_allclose(found.importance, [0, 0.5, 1, 2], atol=1e-6)
    np.testing.assert_allclose(found.stderr, 0, atol=1e-7)
    assert lim(study).values == ((0.0,),) * 4


def test_images_are_compared_by_their_channels() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1))
    batch = random(2, 3, 4, 5)
    found = lim_scores(make_study(model, [batch], squares), blocks=["0", "1"])
    hidden = model[0](batch)
    expected = [
        -nn.functional.cosine_similarity(before, after, dim=1).mean().item()
        for before, after in ((batch, hidden), (hidden, model[1](hidden)))
    ]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)


def test_a_block_that_runs_twice_counts_by_the_mean_of_its_calls() -> None:
    study = make_study(
        Turns(60), [random(4, 2)], lambda model, batch: squares(model, batch) + squares(model, -batch)
    )
    np.testing.assert_allclose(lim_scores(study).scores, [-0.5], rtol=1e-5)


def test_samples_of_several_rows() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        both: Tensor = squares(model, batch).reshape(-1, 2).sum(1)
        return both

    found = lim_scores(make_study(Blocks(), [random(6, 4)], loss))
    samples = slow_turns(Blocks().double(), [random(6, 4)[:, None]]).reshape(3, 2, 3).mean(axis=1)
    np.testing.assert_allclose(found.scores, samples.mean(axis=0) - 1, rtol=1e-5)
    np.testing.assert_allclose(found.stderr, samples.std(axis=0, ddof=1) / np.sqrt(3), rtol=1e-5)


def test_a_single_sample_has_no_standard_error() -> None:
    study = make_study(Blocks(), [random(1, 4)], squares)
    assert lim_scores(study).stderr is None
    assert lim(study).stderr is None


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_decoders_of_transformers(attention: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        attn_implementation=attention,
    )
    model = transformers.LlamaForCausalLM(config)
    tokens = torch.randint(0, 20, (3, 5))
    study = make_study(model, [tokens], lambda model, batch: model(batch).logits.flatten(1).sum(1))
    found = lim_scores(study)
    assert found.blocks == tuple(f"model.layers.{index}" for index in range(3))
    with torch.no_grad():
        states = model(tokens, output_hidden_states=True).hidden_states
    # The last state is normalised; what comes before it is not.
    expected = [
        -nn.functional.cosine_similarity(*pair, dim=-1).mean().item() for pair in pairwise(states[:3])
    ]
    np.testing.assert_allclose(found.scores[:2], expected, rtol=1e-5)


# The model afterwards


@pytest.mark.parametrize("breaks", [False, True])
def test_the_model_is_as_it_was(breaks: bool) -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        losses = squares(model, batch)
        if breaks:
            raise RuntimeError("broke")
        return losses

    study = make_study(Blocks(), BATCHES, loss)
    before = state(study.model)
    if breaks:
        with pytest.raises(RuntimeError, match="broke"):
            lim(study)
    else:
        assert lim(study) == lim(study)
    assert state(study.model) == before


# Refusals


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="/blocks: expected at least 1 blocks, found 0"):
        lim(make_study(nn.Sequential(nn.Linear(4, 3)), BATCHES, squares))


def test_a_block_that_changes_the_shape_is_refused() -> None:
    detail = r"/blocks/stem: turns shape \(3, 5, 4\) into \(3, 5, 6\); name blocks that keep the shape"
    with pytest.raises(InvalidInputError, match=detail):
        lim(make_study(Blocks(), BATCHES, squares), blocks=["stem", "blocks.*"])


def test_a_block_that_does_not_run_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"/blocks/blocks\.2: does not run; leave it out"):
        lim(make_study(Blocks(order=(0, 1)), BATCHES, squares))


def test_an_activation_that_is_not_finite_names_the_block() -> None:
    model = Blocks()
    model.blocks[1][0].bias.data[0] = torch.nan
    study = make_study(model, BATCHES, squares)
    before = state(model)
    with pytest.raises(InvalidInputError, match=r"/blocks/blocks\.1: its activation is NaN or infinite"):
        lim(study)
    assert state(model) == before


def test_a_batch_without_samples_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="/batches/1: holds no samples"):
        lim(make_study(Blocks(), [BATCHES[0], BATCHES[1][:0]], squares))
