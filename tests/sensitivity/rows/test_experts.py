"""Stacked experts as rows: one projection of one expert at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from allocator import InvalidInputError
from quantize import parse_format, round_trip
from sensitivity.rows.experts import ExpertRef, find_experts, replacing_expert, tokens_of
from tests.sensitivity.decoders import TOKENS, llama, logits_of, mixtral
from tests.sensitivity.studies import state

INT4 = parse_format("int4-g8")


class Turned(nn.Module):
    """Stacks (experts, in, out), as in GPT-OSS."""

    def __init__(self) -> None:
        super().__init__()
        self.num_experts, self.is_transposed = 2, True
        self.down_proj = nn.Parameter(torch.randn(2, 16, 6, generator=torch.Generator().manual_seed(0)))


def test_every_projection_of_every_expert_is_a_row() -> None:
    rows = find_experts(mixtral())
    assert len(rows) == 2 * 4 * 2
    assert [row.name for row in rows[:3]] == [
        "model.layers.0.mlp.experts.0.gate_up_proj",
        "model.layers.0.mlp.experts.0.down_proj",
        "model.layers.0.mlp.experts.1.gate_up_proj",
    ]
    assert [row.shape for row in rows[:2]] == [(96, 32), (32, 48)]


def test_models_without_experts_have_none() -> None:
    assert find_experts(llama()) == ()


@pytest.mark.parametrize("index", [0, 3, 13])
def test_only_one_expert_changes_and_it_is_rounded_as_a_linear_would_be(index: int) -> None:
    model = mixtral()
    row = find_experts(model)[index]
    stack = getattr(row.module, row.projection)
    before = stack.detach().clone()
    expected = before.clone()
    expected[row.index] = torch.from_numpy(round_trip(before[row.index].numpy(), INT4))
    with replacing_expert(row, INT4):
        assert torch.equal(stack, expected)
        assert not torch.equal(stack, before)
    assert torch.equal(stack, before)


def test_stacks_that_are_turned_are_rounded_along_their_inputs() -> None:
    model = Turned()
    row = find_experts(model)[1]
    assert row.shape == (6, 16)
    expected = round_trip(model.down_proj[1].detach().T.contiguous().numpy(), INT4).T
    with replacing_expert(row, INT4):
        assert torch.equal(model.down_proj[1], torch.from_numpy(expected))


def test_outputs_change_under_inference_mode_and_are_back_afterwards() -> None:
    model = mixtral()
    before = state(model)
    with torch.inference_mode():
        original = logits_of(model, TOKENS)
        with replacing_expert(find_experts(model)[0], parse_format("int2")):
            assert not torch.equal(logits_of(model, TOKENS), original)
        assert torch.equal(logits_of(model, TOKENS), original)
    assert state(model) == before


def break_off(row: ExpertRef) -> None:
    with replacing_expert(row, INT4):
        raise RuntimeError("broke")


def test_the_expert_is_back_after_an_error() -> None:
    model = mixtral()
    before = state(model)
    with pytest.raises(RuntimeError, match="broke"):
        break_off(find_experts(model)[5])
    assert state(model) == before


def test_an_expert_that_cannot_be_stored_is_named_and_untouched() -> None:
    model = mixtral()
    row = find_experts(model)[2]
    with torch.no_grad():
        getattr(row.module, row.projection)[row.index, 0, 0] = float("inf")
    before = state(model)
    with pytest.raises(InvalidInputError, match=r"experts\.1\.gate_up_proj: .* holds NaN or infinity"):
        break_off(row)
    assert state(model) == before


def test_tokens_are_counted_by_place() -> None:
    row = find_experts(mixtral())[2]
    assert row.index == 1
    assert tokens_of(row, torch.tensor([[0, 1], [1, 2], [3, 0]])) == 2
