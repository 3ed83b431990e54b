"""Relevance against messages between single numbers, and what a relevance pass leaves behind."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from allocator import InvalidInputError
from quantize import round_trip
from sensitivity import Study, lrp, relevance
from sensitivity.relevance_rules import ATTN_LRP, CHEFER
from sensitivity.tasks import serial
from sensitivity.text_encoder import TextEncoder, Tokenizer, info_nce, pair_batches
from tests.sensitivity import slow_relevance as slow
from tests.sensitivity.studies import make_study, squares, state

EPSILON = 1e-3  # large enough to be seen
RULES = replace(ATTN_LRP, epsilon=EPSILON)
Messages = tuple[list[float], float, float]


def seeded(make: Callable[[], nn.Module]) -> Any:
    torch.manual_seed(0)
    return make().double().eval()


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def first_output(model: nn.Module, batch: Tensor) -> Tensor:
    """The number to explain: the first output of the last position."""
    outputs: Tensor = model(batch)
    return outputs.flatten(1)[:, 0]


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


# Against messages between single numbers


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


class Residual(nn.Module):
    """A convolution, batch normalisation, a block with a shortcut, pooling and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.inner = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.head = nn.Linear(2, 3)
        for value in (self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias):
            nn.init.uniform_(value, 0.5, 1.5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.norm(self.stem(images)), inplace=True)
        hidden = functional.max_pool2d(functional.relu(self.inner(hidden) + hidden), 2)
        result: Tensor = self.head(hidden.mean((2, 3)))
        return result


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


# Whole models


def llama(**options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=40, num_key_value_heads=2, **small, **options)
    return seeded(lambda: transformers.LlamaForCausalLM(config))


def bert(**options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(vocab_size=40, **small, **options)
    return seeded(lambda: transformers.BertModel(config, add_pooling_layer=False))


TOKENS = torch.randint(0, 40, (4, 6), generator=torch.Generator().manual_seed(0))


def next_token(model: nn.Module, batch: Tensor) -> Tensor:
    """The score of the token that the model finds most likely to come next."""
    best: Tensor = model(batch).logits[:, -1].max(1).values
    return best


def masked_mean(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    mask = batch["attention_mask"][..., None]
    hidden = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
    loss: Tensor = hidden[:, :3].logsumexp(1) - hidden[:, 1]
    return loss


PADDED = {"input_ids": TOKENS, "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2] * 2)}


@pytest.mark.parametrize("rules", [ATTN_LRP, CHEFER], ids=["AttnLRP", "Chefer"])
def test_fused_and_eager_attention_give_the_same_relevance(rules: Any) -> None:
    rules = replace(rules, epsilon=1e-12)  # eager attention adds the mask, one more place for epsilon
    both = [
        [
            relevance(make_study(llama(attn_implementation=kind), [TOKENS], next_token), rules=rules)
            for kind in KINDS
        ],
        [relevance(bert_study(attn_implementation=kind), rules=rules) for kind in KINDS],
    ]
    for eager, fused in both:
        np.testing.assert_allclose(
            fused.samples, eager.samples, rtol=2e-3, atol=1e-9
        )  # eager softmax is in float32
        np.testing.assert_allclose(fused.conservation_error, eager.conservation_error, atol=1e-5)


KINDS = ("eager", "sdpa")


def bert_study(**options: Any) -> Study:
    # Rows of the position table belong to no sample.
    return make_study(bert(**options), [PADDED], masked_mean, exclude=["*.position_embeddings"])


def test_without_biases_all_rules_but_the_softmax_of_attn_lrp_conserve_relevance() -> None:
    study = make_study(llama(), [TOKENS], next_token)
    tiny = {"epsilon": 1e-12}
    assert relevance(study, rules=replace(CHEFER, **tiny)).conservation_error < 1e-6
    lost = relevance(study, rules=replace(ATTN_LRP, **tiny)).conservation_error
    assert 1e-3 < lost < 0.5


def test_a_convolutional_network_without_biases_conserves_relevance() -> None:
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, bias=False),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 4, 2, bias=False),
            nn.GELU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4, 3, bias=False),
        )
    )
    found = relevance(
        make_study(model, [random(4, 1, 8, 8)], first_output), rules=replace(ATTN_LRP, epsilon=1e-15)
    )
    assert found.conservation_error < 1e-9


def test_an_embedding_tied_to_the_output_counts_both_uses_as_one_layer() -> None:
    tied = make_study(llama(tie_word_embeddings=True), [TOKENS], next_token)
    found = relevance(tied)
    apart = llama(tie_word_embeddings=True)
    apart.lm_head.weight = nn.Parameter(apart.lm_head.weight.detach().clone())
    separate = relevance(make_study(apart, [TOKENS], next_token))
    assert len(tied.layers) == len(separate.shares) - 1
    np.testing.assert_allclose(found.samples[:, 0], separate.samples[:, [0, -1]].sum(1), rtol=1e-9)
    np.testing.assert_allclose(found.samples[:, 1:], separate.samples[:, 1:-1], rtol=1e-9)


def test_relevance_goes_back_to_embeddings_that_are_not_studied_too() -> None:
    whole = relevance(make_study(llama(), [TOKENS], next_token))
    part = relevance(make_study(llama(), [TOKENS], next_token, exclude=["model.embed_tokens"]))
    assert part.conservation_error == pytest.approx(whole.conservation_error, rel=1e-9)
    rest = whole.samples[:, 1:]
    np.testing.assert_allclose(part.samples, rest / rest.sum(axis=1, keepdims=True), rtol=1e-9)


class Attention(nn.Module):
    """What :class:`torch.nn.MultiheadAttention` does, in separate steps."""

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        super().__init__()
        self.fused = fused

    def forward(self, inputs: Tensor) -> Tensor:
        weight, bias = self.fused.in_proj_weight, self.fused.in_proj_bias
        q, k, v = (
            (inputs @ w.T + b).unflatten(2, (2, -1)).transpose(1, 2)
            for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        result: Tensor = self.fused.out_proj(mixed.transpose(1, 2).flatten(2))
        return result


class Fused(Attention):
    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.fused(inputs, inputs, inputs)[0]
        return result


def test_multi_head_attention_gives_what_its_steps_give() -> None:
    fused = seeded(lambda: nn.MultiheadAttention(6, 2, batch_first=True))
    nn.init.uniform_(fused.in_proj_bias)
    batches = [random(3, 5, 6)]
    first = make_study(
        nn.Sequential(Fused(fused), nn.Linear(6, 2).double()), batches, first_output, ["int2", "int3"]
    )
    second = make_study(
        nn.Sequential(Attention(fused), first.model[1]), batches, first_output, ["int2", "int3"]
    )
    tiny = replace(ATTN_LRP, epsilon=1e-12)  # a bias that is added by itself is one more place for epsilon
    np.testing.assert_allclose(
        relevance(first, rules=tiny).samples, relevance(second, rules=tiny).samples, rtol=1e-6
    )
    np.testing.assert_allclose(lrp(first, rules=tiny).values, lrp(second, rules=tiny).values, rtol=1e-6)


def test_an_encoder_of_torch_with_masks() -> None:
    def make() -> nn.Module:
        block = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True, activation="gelu")
        return nn.TransformerEncoder(block, 2, enable_nested_tensor=False)

    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    causal = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        outputs: Tensor = model(batch, mask=causal, src_key_padding_mask=padding.double() * -1e9)
        return outputs[:, 0].square().sum(1)

    study = make_study(seeded(make), [random(2, 5, 8)], loss)
    found = relevance(study)
    assert found.samples.shape == (2, 6)
    # The first position sees nothing but itself, so that later inputs are not relevant.
    changed = random(2, 5, 8)
    changed[:, 1:] *= 3
    again = relevance(replace(study, batches=[changed]))
    first_block = [index for index, layer in enumerate(study.layers) if "layers.1" in layer.name]
    assert (found.samples[:, first_block] > 0).all()
    np.testing.assert_allclose(again.conservation_error, found.conservation_error, rtol=1e-9)


def test_a_sentence_encoder(loaded: tuple[TextEncoder, Tokenizer], pairs: list[tuple[str, str]]) -> None:
    encoder, tokenizer = loaded
    batches = pair_batches(tokenizer, pairs[:4], 2)
    study = make_study(encoder, batches, info_nce, ["int4-g64"], exclude=["*.position_embeddings"])
    before = state(encoder)
    found = relevance(study)
    assert state(encoder) == before
    assert found.samples.shape == (4, len(study.layers))
    np.testing.assert_allclose(found.samples.sum(axis=1), 1)
    assert (found.shares > 0).all()
    assert np.isfinite(found.conservation_error)


# Shares


def small() -> Any:
    return seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)))


def test_two_layers_by_hand() -> None:
    # x = (1, 2) → z = 1·1 − 1·2 = −1 and 1·1 + 1·2 = 3 → relu 0, 3 → y = 2·3 = 6. All of 6 goes to the second
    # hidden unit: |R| is 6 at each layer. At the inputs 3 = 1 + 2 shares 6 as 2 and 4, so nothing is lost.
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    model[0].weight.data = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    model[2].weight.data = torch.tensor([[5.0, 2.0]])
    found = relevance(make_study(model, [torch.tensor([[1.0, 2.0]])], first_output))
    np.testing.assert_allclose(found.shares, [0.5, 0.5], rtol=1e-6)
    assert found.conservation_error < 1e-5
    assert found.stderr is None
    # With a bias of 2 in the last layer, y = 8 and a quarter of the relevance is lost to the bias.
    model[2].bias = nn.Parameter(torch.tensor([2.0]))
    found = relevance(make_study(model, [torch.tensor([[1.0, 2.0]])], first_output))
    np.testing.assert_allclose(found.shares, [6 / 14, 8 / 14], rtol=1e-6)
    assert found.conservation_error == pytest.approx(0.25, rel=1e-5)


def test_shortcuts_that_are_added_in_place_make_no_difference() -> None:
    class Shortcut(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.in_place = in_place
            self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden: Tensor = self.first(inputs)
            if self.in_place:
                hidden += inputs
            else:
                hidden = hidden + inputs
            result: Tensor = self.second(hidden)
            return result

    found = [
        relevance(
            make_study(seeded(partial(Shortcut, in_place)), [random(4, 5)], squares),
            rules=replace(ATTN_LRP, epsilon=1e-12),
        )
        for in_place in (False, True)
    ]
    np.testing.assert_allclose(found[1].samples, found[0].samples, rtol=1e-8)


def test_the_size_of_batches_and_of_losses_does_not_matter() -> None:
    model, inputs = small(), random(6, 5)
    found = relevance(make_study(model, [inputs[:4], inputs[4:]], squares))
    alone = relevance(make_study(model, list(inputs.split(1)), squares))
    larger = relevance(make_study(model, [inputs], lambda model, batch: 1000 * squares(model, batch)))
    for other in (alone, larger):
        np.testing.assert_allclose(other.samples, found.samples, rtol=1e-9)
        assert other.conservation_error == pytest.approx(found.conservation_error, rel=1e-9)


def test_samples_of_several_consecutive_rows() -> None:
    def contrast(model: nn.Module, batch: Tensor) -> Tensor:
        outputs = model(batch)
        difference: Tensor = (outputs[0::2] - outputs[1::2]).square().sum(1)
        return difference

    model, inputs = small(), random(6, 5)
    together = relevance(make_study(model, [inputs], contrast))
    alone = relevance(make_study(model, list(inputs.split(2)), contrast))
    assert together.samples.shape == (3, 2)
    np.testing.assert_allclose(together.samples, alone.samples, rtol=1e-9)


def test_samples_without_any_relevance_count_as_zero() -> None:
    def never(model: nn.Module, batch: Tensor) -> Tensor:
        return squares(model, batch) * torch.tensor([0.0, 1.0])

    model = small()
    found = relevance(make_study(model, [random(2, 5)], never))
    assert found.samples[0].tolist() == [0, 0]
    assert found.samples[1].sum() == pytest.approx(1)
    nothing = relevance(make_study(model, [random(2, 5)], lambda *pair: 0 * squares(*pair)))
    assert nothing.shares.tolist() == [0, 0]
    assert nothing.conservation_error == 0


def test_a_model_that_is_called_twice_for_a_loss() -> None:
    def twice(model: nn.Module, batch: Tensor) -> Tensor:
        return squares(model, batch) + squares(model, 2 * batch)

    model, inputs = small(), random(3, 5)
    found = relevance(make_study(model, [inputs], twice))
    doubled = torch.stack([inputs, 2 * inputs], 1).flatten(0, 1)
    pairs = relevance(make_study(model, [doubled], lambda *pair: squares(*pair).reshape(-1, 2).sum(1)))
    np.testing.assert_allclose(found.samples, pairs.samples, rtol=1e-9)


def test_calls_of_the_model_without_gradients_do_not_count() -> None:
    def centred(model: nn.Module, batch: Tensor) -> Tensor:
        with torch.no_grad():
            target = model(0.5 * batch)
        return (model(batch) - target).square().sum(1)

    model, inputs = small(), random(3, 5)
    target = model(0.5 * inputs).detach()
    expected = relevance(
        make_study(model, [inputs], lambda model, batch: (model(batch) - target).square().sum(1))
    )
    found = relevance(make_study(model, [inputs], centred))
    np.testing.assert_allclose(found.samples, expected.samples, rtol=1e-12)
    assert found.conservation_error == pytest.approx(expected.conservation_error, rel=1e-12)


def test_another_number_than_the_loss_can_be_explained() -> None:
    study = make_study(small(), [random(4, 5)], squares)
    scores = relevance(study, explained=first_output)
    assert np.array_equal(scores.samples, relevance(replace(study, loss_fn=first_output)).samples)
    assert not np.array_equal(scores.samples, relevance(study).samples)


# The table


@pytest.mark.parametrize("error", ["output", "weight"])
def test_the_table_is_the_mean_of_share_times_error(error: Any) -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.ReLU(), nn.Linear(12, 2)))
    study = make_study(model, [random(3, 2, 6), random(2, 2, 6, seed=2)], squares)
    shares = relevance(study).samples
    samples = np.zeros((5, 2, len(study.formats)))
    for row, sample in enumerate(torch.cat(list(study.batches))):
        inputs = (sample[None], functional.relu(model[:2](sample[None])))
        for index, (layer, given) in enumerate(zip((model[0], model[3]), inputs, strict=True)):
            weight = layer.weight.detach()
            call = functional.conv1d if index == 0 else functional.linear
            for column, target in enumerate(study.formats):
                change = torch.from_numpy(round_trip(weight.numpy().astype(np.float32), target)) - weight
                pair = (change, weight) if error == "weight" else (call(given, change), call(given, weight))
                ratio = pair[0].square().sum().detach() / pair[1].square().sum().detach()
                samples[row, index, column] = shares[row, index] * float(ratio)
    made = lrp(study, error=error)
    np.testing.assert_allclose(made.values, samples.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(made.stderr, samples.std(axis=0, ddof=1) / np.sqrt(5), rtol=1e-9)
    conserved = relevance(study).conservation_error
    assert f"relative squared {error} error" in made.meaning
    assert made.meaning.endswith(f"relevance conserved up to {conserved:.3g} of itself")


def test_standard_errors_cover_what_they_should() -> None:
    """Of 200 draws of 25 samples, about 95 % have the true mean within 2 standard errors."""
    model = small().float()
    everything = torch.randn(5000, 5, generator=torch.Generator().manual_seed(3))
    truth = relevance(make_study(model, [everything], squares)).shares
    found = [relevance(make_study(model, [part], squares)) for part in everything.split(25)]
    near = [np.abs(item.shares - truth) < 2 * item.stderr for item in found if item.stderr is not None]
    assert 0.90 < np.mean(near) < 0.98


def test_progress_is_told_and_pieces_are_named_by_batch_and_format() -> None:
    told: list[tuple[str, int, int]] = []
    study = make_study(small(), list(random(4, 5).split(2)), squares, ["int2", "int4", "int8"])
    lrp(replace(study, progress=lambda *step: told.append(step)))
    assert told == [
        *(("relevance", done, 2) for done in (1, 2)),
        *(("output_error", done, 3) for done in (1, 2, 3)),
    ]


def test_pieces_can_be_sent_to_another_process() -> None:
    kept: list[Any] = []

    def engine(study: Study, stage: str, keys: Any, measure: Any) -> Any:
        kept.append(pickle.loads(pickle.dumps(measure)))
        return serial(study, stage, keys, kept[-1])

    study = make_study(small(), [random(4, 5)], squares)
    assert lrp(replace(study, engine=engine)) == lrp(study)
    assert len(kept) == 2


def test_scores_that_are_masked_with_infinity_carry_no_relevance() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.layer(inputs).masked_fill(torch.tensor([False, False, True]), -torch.inf)

    found = relevance(make_study(seeded(Masked), [random(4, 5)], first_output))
    assert np.isfinite(found.conservation_error)


# The model afterwards


def test_the_model_is_as_it_was_and_two_runs_agree_bit_for_bit() -> None:
    model = seeded(Residual)
    model.stem.weight.requires_grad_(False)
    study = make_study(model, [random(3, 1, 4, 4)], squares)
    before = state(model)
    first = lrp(study)
    assert state(model) == before
    assert lrp(study) == first


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
@pytest.mark.parametrize("where", ["loss", "model"])
def test_the_model_is_as_it_was_when_a_batch_raises(where: str, calls: int) -> None:
    left = itertools.count()

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        breaks = next(left) == calls
        if breaks and where == "loss":
            model(batch)
            raise RuntimeError("broke")
        return squares(model, batch[:, :-1] if breaks else batch)

    study = make_study(small(), list(random(4, 5).split(2)), loss, ["int2"])
    before = state(study.model)
    outputs = study.model(study.batches[0])
    with pytest.raises(RuntimeError, match="broke" if where == "loss" else "shapes cannot be multiplied"):
        lrp(study)
    assert state(study.model) == before
    assert torch.equal(study.model(study.batches[0]), outputs)
    squares(study.model, study.batches[0]).sum().backward()
    assert all(parameter.grad is not None for parameter in study.model.parameters())


# Refusals


def test_an_activation_that_is_not_finite_names_the_layer() -> None:
    model = small()
    model[2].weight.data[0, 0] = torch.nan
    study = make_study(model, [random(2, 5)], squares)
    before = state(model)
    with pytest.raises(
        InvalidInputError, match="/layers/2: its output is NaN or infinite on a calibration batch"
    ):
        relevance(study)
    assert state(model) == before


def test_relevance_that_is_not_finite_names_the_layers() -> None:
    model = small()
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    study = make_study(model, [random(2, 5)], lambda model, batch: model(batch).sqrt().sum(1))
    with pytest.raises(InvalidInputError, match="/layers/2: its relevance is NaN or infinite"):
        relevance(study)


def test_a_layer_that_takes_no_part_is_refused() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            result: Tensor = self.used(inputs)
            return result

    study = make_study(Idle().double(), [random(2, 5)], squares)
    for estimate in (relevance, lambda study: lrp(replace(study, layers=study.layers[1:]))):
        with pytest.raises(InvalidInputError, match="/layers/idle: takes no part in the loss; exclude it"):
            estimate(study)


@pytest.mark.parametrize(
    ("loss", "detail"),
    [
        (lambda model, batch: squares(model[0], batch), "/loss_fn: never calls the studied model itself"),
        (lambda model, batch: squares(model, batch).detach(), "/loss_fn: the losses do not depend on what"),
        (
            lambda model, batch: squares(model, batch).sum(),
            r"/loss_fn: expected one number per sample.*shape \(\)",
        ),
        (
            lambda model, batch: squares(model, batch).tolist(),
            "/loss_fn: expected one number per sample.*got list",
        ),
        (lambda model, batch: squares(model, batch)[:3], "/layers/0: sees 4 rows for 3 losses"),
        (
            lambda model, batch: squares(model, batch).cumsum(0),
            "/loss_fn: the loss of one sample depends on the rows",
        ),
    ],
)
def test_losses_that_cannot_be_traced_are_refused(loss: Any, detail: str) -> None:
    with pytest.raises(InvalidInputError, match=detail):
        relevance(make_study(small(), [random(4, 5)], loss))


def test_a_batch_without_samples_is_refused() -> None:
    batches = [random(2, 5), random(2, 5)[:0]]
    with pytest.raises(InvalidInputError, match="/batches/1: holds no samples; leave it out"):
        relevance(make_study(small(), batches, squares))


def test_sequences_that_run_before_the_batch_are_refused() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        outputs: Tensor = model(batch.transpose(0, 1))  # (T, B, D)
        return outputs.square().sum((0, 2))

    with pytest.raises(InvalidInputError, match="sequence before batch"):
        relevance(make_study(small(), [random(2, 4, 5)], loss))


def test_a_model_that_changes_activations_behind_its_own_back_is_refused() -> None:
    class Behind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden: Tensor = self.layer(inputs)
            functional.relu(hidden, inplace=True)
            return hidden

    with pytest.raises(
        InvalidInputError, match=r"/model: gives losses that differ by .* under the relevance rules"
    ):
        relevance(make_study(seeded(Behind), [random(4, 5)], squares))


def test_attention_with_learned_keys_is_refused() -> None:
    fused = seeded(lambda: nn.MultiheadAttention(6, 2, batch_first=True, add_bias_kv=True))
    study = make_study(nn.Sequential(Fused(fused)), [random(3, 5, 6)], first_output)
    with pytest.raises(InvalidInputError, match=r"/model: nn\.MultiheadAttention without a batch dimension"):
        relevance(study)


def test_an_unknown_error_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="/error: unknown error 'outputs'; did you mean 'output'"):
        lrp(make_study(small(), [random(4, 5)], squares), error="outputs")  # type: ignore[arg-type]
