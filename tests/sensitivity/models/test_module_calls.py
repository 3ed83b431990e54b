"""Embeddings that are not called with what they look up: their tables follow the lookup, not the call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantize import parse_format, round_trip
from sensitivity import fisher, output_mse
from sensitivity.models.layers import discover
from sensitivity.models.module_calls import on_call
from sensitivity.study.input_moments import input_moments
from sensitivity.study.study import Study, silent

FORMATS = ("int2", "int4")


class Shifted(nn.Embedding):
    """Positions made of a mask, two further on, as in OPT; called by name."""

    def forward(self, mask: Tensor) -> Tensor:
        return super().forward(mask.cumsum(1) * mask + 1)


class Scaled(nn.Embedding):
    """Entries times a number, as in BART and Gemma."""

    def forward(self, entries: Tensor) -> Tensor:
        return super().forward(entries) * 3.0


class Indexed(nn.Embedding):
    """Rows of the weight by index, without a lookup of torch."""

    def forward(self, entries: Tensor) -> Tensor:
        return self.weight[entries + 1]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.positions, self.more = Scaled(12, 8), Shifted(10, 8), Indexed(13, 8)
        self.up = nn.Linear(8, 6)

    def forward(self, batch: Tensor) -> Tensor:
        mask = (batch > 0).long()
        hidden = self.tokens(batch) + self.positions(mask=mask) + self.more(batch)
        result: Tensor = self.up(input=torch.tanh(hidden))
        return result


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    losses: Tensor = model(batch).square().flatten(1).mean(1)
    return losses


BATCHES = [torch.tensor([[1, 5, 5, 0], [2, 11, 3, 1]]), torch.tensor([[7, 7, 0, 0], [9, 1, 2, 4]])]


def study() -> Study:
    model = Model().eval()
    return Study(model, BATCHES, loss, discover(model), tuple(map(parse_format, FORMATS)), 0, silent)


LOOKED_UP: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens": lambda batch: batch,
    "positions": lambda batch: (batch > 0).long().cumsum(1) * (batch > 0) + 1,
    "more": lambda batch: batch + 1,
}


def test_output_mse_follows_the_lookup() -> None:
    given = study()
    values = np.array(output_mse(given).values)
    for row, layer in enumerate(given.layers[:3]):
        weight = layer.weight.detach()
        entries = torch.cat([LOOKED_UP[layer.name](batch).flatten() for batch in BATCHES])
        for column, fmt in enumerate(given.formats):
            change = torch.from_numpy(round_trip(weight.numpy(), fmt)) - weight
            assert values[row, column] == pytest.approx(float(change[entries].square().sum()) / 4, rel=1e-6)


def test_fisher_is_that_of_the_weight() -> None:
    given = study()
    values = np.array(fisher(given).values)
    expected = np.zeros_like(values)
    for batch in BATCHES:
        for sample in batch:
            made = loss(given.model, sample[None]).sum()
            gradients = torch.autograd.grad(made, [layer.weight for layer in given.layers])
            for row, (layer, gradient) in enumerate(zip(given.layers, gradients, strict=True)):
                weight = layer.weight.detach()
                for column, fmt in enumerate(given.formats):
                    change = torch.from_numpy(round_trip(weight.numpy(), fmt)) - weight
                    expected[row, column] += float((gradient * change).square().sum())
    np.testing.assert_allclose(values / values[3, 0], expected / expected[3, 0], rtol=1e-4)


def test_moments_count_the_entries_that_were_looked_up() -> None:
    given = study()
    moments = input_moments(given.model, BATCHES, loss, given.layers)
    for name, entries in LOOKED_UP.items():
        counted = torch.cat([entries(batch).flatten() for batch in BATCHES]).bincount(
            minlength=len(moments[name])
        )
        assert moments[name].tolist() == counted.tolist()


def test_nothing_is_left_behind() -> None:
    model = Model()
    before = {name: dict(module.__dict__) for name, module in model.named_modules()}
    ends = [on_call(module, lambda *_: None) for module in model.children()]
    model(BATCHES[0])
    for end in ends:
        end()
    after = {name: dict(module.__dict__) for name, module in model.named_modules()}
    assert {name: list(found) for name, found in after.items()} == {
        name: list(found) for name, found in before.items()
    }
    wrapped = Scaled(4, 2)
    wrapped.__dict__["forward"] = outer = partial(type(wrapped).forward, wrapped)  # as offloading does
    end = on_call(wrapped, lambda *_: None)
    wrapped(torch.tensor([[1]]))
    end()
    assert wrapped.__dict__["forward"] is outer


def test_positions_of_a_real_opt_are_those_that_it_looks_up() -> None:
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=50, hidden_size=16, ffn_dim=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=20, word_embed_proj_dim=16,
    )  # fmt: skip
    model = OPTForCausalLM(config).eval()
    seen: dict[str, Tensor] = {}
    for name, module in model.model.decoder.named_children():
        if isinstance(module, nn.Embedding):
            on_call(module, lambda _, entries, __, name=name: seen.update({name: entries}))
    model(torch.tensor([[3, 4, 5], [6, 7, 8]]))
    assert seen["embed_positions"].tolist() == [[2, 3, 4]] * 2
    assert seen["embed_tokens"].tolist() == [[3, 4, 5], [6, 7, 8]]
