"""Work counted in a pass, against counts by definition."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sensitivity.forward.forward_pass import Cache, forward_pass
from sensitivity.rows import KINDS
from tests.sensitivity.decoders import decoder_study, llama, mixtral
from tests.sensitivity.models.test_layers import Tied
from tests.sensitivity.studies import Blocks, make_study, squares, state


def slow_convolution_macs(module: nn.Conv1d | nn.Conv2d, size: tuple[int, ...]) -> int:
    """Walk over every output value and every number that is multiplied for it."""
    spans = [
        (length + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for length, pad, dilation, kernel, stride in zip(
            size, module.padding, module.dilation, module.kernel_size, module.stride, strict=True
        )
    ]
    macs = 0
    for _ in itertools.product(range(module.out_channels), *map(range, spans)):
        for _ in itertools.product(
            range(module.in_channels // module.groups), *map(range, module.kernel_size)
        ):
            macs += 1
    return macs


@settings(max_examples=30, deadline=None)
@given(
    samples=st.integers(1, 3),
    groups=st.sampled_from([1, 2]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    dilation=st.integers(1, 2),
    two=st.booleans(),
)
def test_convolutions_multiply_what_the_definition_says(
    samples: int, groups: int, kernel: int, stride: int, padding: int, dilation: int, two: bool
) -> None:
    size = (7, 6) if two else (7,)
    kind = nn.Conv2d if two else nn.Conv1d
    module = kind(4, 6, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    seen = forward_pass(make_study(nn.Sequential(module), [torch.ones(samples, 4, *size)], squares))
    assert seen.macs("0") == slow_convolution_macs(module, size)
    (call,) = seen.calls["0"]
    assert call.macs == samples * seen.macs("0")
    assert call.moved == samples * (4 * torch.Size(size).numel() + call.m // samples * 6)


def token_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    hidden = model.middle(model.embed(tokens))
    losses: Tensor = model.head(hidden).flatten(1).sum(1)
    return losses


def test_linears_count_tokens_and_a_tied_head_counts_with_its_embedding() -> None:
    seen = forward_pass(make_study(Tied(), [torch.zeros(2, 5, dtype=torch.int64)], token_loss))
    assert seen.samples == 2
    assert seen.macs("middle") == 5 * 4 * 4
    assert seen.macs("embed") == 5 * 4 * 9
    lookup, head = seen.calls["embed"]
    assert (lookup.operation, lookup.macs, lookup.reads) == ("lookup", 0, ((10, 4),))
    assert (head.operation, head.m, head.k, head.n, head.tokens) == ("matmul", 10, 4, 9, 10)
    assert head.moved == 10 * (4 + 9)


def test_layers_that_run_more_than_once_or_not_at_all() -> None:
    batch = torch.ones(2, 4)
    assert forward_pass(make_study(Blocks(order=(0, 1, 0)), [batch], squares)).macs("blocks.0.0") == 2 * 6 * 6
    idle = forward_pass(make_study(Blocks(order=(0, 1)), [batch], squares))
    assert idle.macs("blocks.2.0") == 0
    assert idle.calls["blocks.2.0"] == ()


def test_attention_multiplies_queries_with_keys_and_probabilities_with_values() -> None:
    seen = forward_pass(decoder_study(llama(), *("weight", "kv_cache")))
    name = "model.layers.1.self_attn.kv_cache"
    by_hand = sum(1 for _ in itertools.product(range(4), range(7), range(7), range(8))) * 2
    assert seen.macs(name) == by_hand
    (call,) = seen.calls[name]
    assert call.reads == ((3 * 2 * 7, 8), (3 * 2 * 7, 8))
    assert call.moved == 3 * 7 * 4 * (8 + 8)
    assert seen.caches[name] == Cache((2, 2), (8, 8), 7, None)
    assert seen.macs("model.layers.0.mlp.down_proj") == 7 * 48 * 32


def test_caches_are_seen_whether_they_are_rows_or_not() -> None:
    assert set(forward_pass(decoder_study(llama())).caches) == {
        f"model.layers.{block}.self_attn.kv_cache" for block in range(2)
    }


def test_every_token_goes_to_two_experts() -> None:
    study = decoder_study(mixtral(), "expert")
    seen = forward_pass(study)
    tokens: Counter[str] = Counter()
    for row in study.rows:
        (call,) = seen.calls[row.name]
        block, _, projection = row.name.rpartition(".")
        assert call.tokens == 21
        tokens[block.rpartition(".")[0] + projection] += call.m
        assert call.macs == call.m * row.shape[0] * row.shape[1]
    assert set(tokens.values()) == {21 * 2}


def test_activations_do_no_work_of_their_own() -> None:
    seen = forward_pass(decoder_study(llama(), "weight", "activation"))
    assert {seen.macs(name) for name in seen.calls if name.endswith(".input")} == {0}


def test_one_pass_serves_all_who_ask_and_leaves_the_model_as_it_was() -> None:
    study = decoder_study(mixtral(), *KINDS)
    before = state(study.model)
    passes: list[int] = []
    handle = study.model.register_forward_hook(lambda *_: passes.append(1))
    assert forward_pass(study) is forward_pass(study)
    handle.remove()
    assert len(passes) == 1
    assert state(study.model) == before


def test_hooks_are_gone_when_the_loss_raises() -> None:
    study = decoder_study(mixtral(), *KINDS)
    before = state(study.model)

    def fails(*_: object) -> Tensor:
        raise RuntimeError("broke")

    object.__setattr__(study, "loss_fn", fails)
    with pytest.raises(RuntimeError, match="broke"):
        forward_pass(study)
    assert state(study.model) == before
