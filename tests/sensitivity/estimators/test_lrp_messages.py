"""Relevance against messages between single numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sensitivity import Study
from sensitivity.estimators.lrp import relevance
from sensitivity.relevance.rules import ATTN_LRP
from tests.sensitivity import slow_relevance as slow
from tests.sensitivity.estimators.lrp_cases import Residual, first_output, random, seeded
from tests.sensitivity.studies import make_study

EPSILON = 1e-3  # large enough to be seen


RULES = replace(ATTN_LRP, epsilon=EPSILON)


Messages = tuple[list[float], float, float]


def check(study: Study, twin: Callable[[Any], Messages], **options: Any) -> None:
    """Shares and conservation error of every sample, against the twin's Σ|R| by layer, ΣR left, ΣR arrived."""
    messages = [twin(sample) for batch in study.batches for sample in batch]
    absolute = np.array([layers for layers, _, _ in messages])
    shares = absolute / absolute.sum(axis=1, keepdims=True)
    left, arrived = (np.array([message[index] for message in messages]) for index in (1, 2))
    found = relevance(study, rules=RULES, **options)
    np.testing.assert_allclose(found.samples, shares, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found.shares, shares.mean(axis=0), rtol=1e-8)
    assert found.stderr is not None
    np.testing.assert_allclose(
        found.stderr, shares.std(axis=0, ddof=1) / np.sqrt(len(shares)), rtol=1e-6, atol=1e-12
    )
    expected = np.abs(arrived - left).sum() / np.abs(left).sum()
    np.testing.assert_allclose(found.conservation_error, expected, rtol=1e-8)
    assert (shares > 0).all()


def numpy(layer: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    weight = layer.weight.detach().numpy()
    return weight, np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().numpy()


def first_of(outputs: np.ndarray) -> np.ndarray:
    start = np.zeros_like(outputs)
    start.flat[0] = outputs.flat[0]
    return start


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid], ids=str)
def test_linear_layers_and_activations(activation: type[nn.Module]) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 4), activation(), nn.Linear(4, 3)))

    def twin(sample: Tensor) -> Messages:
        x = sample.numpy()
        (w1, b1), (w2, b2) = numpy(model[0]), numpy(model[2])
        hidden = w1 @ x + b1
        active = model[1](torch.from_numpy(hidden)).numpy()
        outputs = w2 @ active + b2
        at_outputs = first_of(outputs)
        at_hidden = slow.through_matrix(
            w2, active, outputs, at_outputs, EPSILON
        )  # and through the activation
        at_inputs = slow.through_matrix(w1, x, hidden, at_hidden, EPSILON)
        return [np.abs(at_hidden).sum(), np.abs(at_outputs).sum()], at_outputs.sum(), at_inputs.sum()

    check(make_study(model, [random(3, 5), random(2, 5, seed=2)], first_output), twin)


def test_a_convolutional_network_with_a_shortcut() -> None:
    model = seeded(Residual)

    def twin(sample: Tensor) -> Messages:
        size = (4, 4)
        x = sample.numpy().ravel()
        (stem, bias), (inner, _), (head, head_bias) = (
            numpy(item) for item in (model.stem, model.inner, model.head)
        )
        stem, inner = (slow.convolution_matrix(item, size, 1) for item in (stem, inner))
        z_stem = stem @ x + np.repeat(bias, 16)
        norm = model.norm
        scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().numpy().repeat(16)
        shift = norm.bias.detach().numpy().repeat(16) - norm.running_mean.detach().numpy().repeat(16) * scale
        z_norm = scale * z_stem + shift
        hidden = np.maximum(z_norm, 0)
        z_inner = inner @ hidden
        total = z_inner + hidden
        pooled = np.maximum(total, 0).reshape(2, 2, 2, 2, 2).max(axis=(2, 4)).ravel()
        mean = np.kron(np.eye(2), np.ones((1, 4)) / 4)
        outputs = head @ (mean @ pooled) + head_bias

        at_outputs = first_of(outputs)
        at_mean = slow.through_matrix(head, mean @ pooled, outputs, at_outputs, EPSILON)
        at_pooled = slow.through_matrix(mean, pooled, mean @ pooled, at_mean, 1e-300)
        at_total = slow.through_max_pool(
            np.maximum(total, 0).reshape(2, 4, 4), at_pooled.reshape(2, 2, 2), 2
        ).ravel()
        at_inner, at_shortcut = slow.through_sum(z_inner, hidden, at_total, EPSILON)
        at_hidden = at_shortcut + slow.through_matrix(inner, hidden, z_inner, at_inner, EPSILON)
        at_stem = slow.through_matrix(np.diag(scale), z_stem, z_norm, at_hidden, EPSILON)
        at_inputs = slow.through_matrix(stem, x, z_stem, at_stem, EPSILON)
        layers = [np.abs(part).sum() for part in (at_stem, at_inner, at_outputs)]
        return layers, at_outputs.sum(), at_inputs.sum()

    check(make_study(model, [random(3, 1, 4, 4)], first_output), twin)


class Decoder(nn.Module):
    """One block in the manner of Llama: causal attention with root mean square norm, and a gated feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.RMSNorm(4, eps=1e-5)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        self.q, self.k, self.v, self.o = (nn.Linear(4, 4, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(4, 6, bias=False), nn.Linear(4, 6, bias=False)
        self.down, self.head = nn.Linear(6, 4, bias=False), nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embed(tokens)  # (B, T, 4)
        normed = self.norm(hidden)
        mixed = functional.scaled_dot_product_attention(
            self.q(normed), self.k(normed), self.v(normed), is_causal=True
        )
        hidden = hidden + self.o(mixed)
        hidden = hidden + self.down(functional.silu(self.gate(hidden)) * self.up(hidden))
        result: Tensor = self.head(hidden[:, -1])
        return result


def test_a_decoder_block_with_attention_and_a_gate() -> None:
    model = seeded(Decoder)

    def rows(layer: nn.Linear, x: np.ndarray, z: np.ndarray, relevance: np.ndarray) -> np.ndarray:
        weight, _ = numpy(layer)
        return np.stack(
            [slow.through_matrix(weight, *item, EPSILON) for item in zip(x, z, relevance, strict=True)]
        )

    def twin(tokens: Tensor) -> Messages:
        w = {name: numpy(layer)[0] for name, layer in model.named_children() if isinstance(layer, nn.Linear)}
        embedded = model.embed.weight.detach().numpy()[tokens.numpy()]
        gain = model.norm.weight.detach().numpy()
        factor = 1 / np.sqrt((embedded**2).mean(axis=1, keepdims=True) + 1e-5)
        scaled = embedded * factor
        normed = scaled * gain
        q, k, v = (normed @ w[name].T for name in "qkv")
        raw = q @ k.T
        scores = np.where(np.tri(len(tokens), dtype=bool), raw / 2, -np.inf)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        attention = powers / powers.sum(axis=1, keepdims=True)
        mixed = attention @ v
        o = mixed @ w["o"].T
        middle = embedded + o
        gate, up = middle @ w["gate"].T, middle @ w["up"].T
        active = gate / (1 + np.exp(-gate))
        gated = active * up
        down = gated @ w["down"].T
        final = middle + down
        outputs = w["head"] @ final[-1] + numpy(model.head)[1]

        at = {"head": first_of(outputs)}
        at_final = np.zeros_like(final)
        at_final[-1] = slow.through_matrix(w["head"], final[-1], outputs, at["head"], EPSILON)
        at_middle, at["down"] = slow.through_sum(middle, down, at_final, EPSILON)
        at_gated = rows(model.down, gated, down, at["down"])
        at["gate"], at["up"] = slow.through_factors(active, up, at_gated, EPSILON)
        for name, z in (("gate", gate), ("up", up)):
            at_middle = at_middle + rows(getattr(model, name), middle, z, at[name])
        at_embed, at["o"] = slow.through_sum(embedded, o, at_middle, EPSILON)
        at_attention, at["v"] = slow.through_matmul(attention, v, rows(model.o, mixed, o, at["o"]), EPSILON)
        at_scores = at_softmax(scores, at_attention)
        at_raw = at_scores * (raw / 2) / slow.stabilised(raw / 2, EPSILON)
        at["q"], at_keys = slow.through_matmul(q, k.T, at_raw, EPSILON)
        at["k"] = at_keys.T
        at_normed = sum(
            rows(getattr(model, name), normed, z, at[name]) for name, z in zip("qkv", (q, k, v), strict=True)
        )
        at_scaled = at_normed * normed / slow.stabilised(normed, EPSILON)
        at["embed"] = at_embed + at_scaled * scaled / slow.stabilised(scaled, EPSILON)
        names = [layer.name for layer in study.layers]
        return [np.abs(at[name]).sum() for name in names], at["head"].sum(), at["embed"].sum()

    def at_softmax(scores: np.ndarray, arrived: np.ndarray) -> np.ndarray:
        # Row by row over what a position may see, which is how the paper's softmax is defined.
        relevance = np.zeros_like(arrived)
        for row in range(len(scores)):
            seen = slice(0, row + 1)
            relevance[row, seen] = slow.through_softmax(
                scores[row : row + 1, seen], arrived[row : row + 1, seen]
            )
        return relevance

    tokens = torch.tensor([[1, 5, 2, 2], [0, 3, 6, 4], [6, 6, 1, 0]])
    study = make_study(model, [tokens], first_output)
    assert len(study.layers) == 9
    check(study, twin)


def test_layer_normalisation_and_a_linear_layer_called_twice() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)
            nn.init.uniform_(self.norm.weight, 0.5, 1.5)
            nn.init.uniform_(self.norm.bias, 0.5, 1.5)

        def forward(self, inputs: Tensor) -> Tensor:
            result: Tensor = self.layer(self.norm(self.layer(inputs)))
            return result

    model = seeded(Normed)

    def twin(sample: Tensor) -> Messages:
        x = sample.numpy()
        w, b = numpy(model.layer)
        gain, shift = numpy(model.norm)
        first = w @ x + b
        centre = np.eye(4) - 1 / 4
        centred = centre @ first
        scaled = centred / np.sqrt((centred**2).mean() + model.norm.eps)
        gained = scaled * gain
        normed = gained + shift
        second = w @ normed + b

        at_second = first_of(second)
        at_normed = slow.through_matrix(w, normed, second, at_second, EPSILON)
        at_gained, _ = slow.through_sum(gained, shift, at_normed, EPSILON)
        at_scaled = at_gained * gained / slow.stabilised(gained, EPSILON)
        at_centred = at_scaled * scaled / slow.stabilised(scaled, EPSILON)
        at_first = slow.through_matrix(centre, first, centred, at_centred, EPSILON)
        at_inputs = slow.through_matrix(w, x, first, at_first, EPSILON)
        return [np.abs(at_first).sum() + np.abs(at_second).sum()], at_second.sum(), at_inputs.sum()

    check(make_study(model, [random(3, 4)], first_output), twin)
