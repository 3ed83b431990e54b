"""Relevance of whole models: attention of all kinds, ties, masks, and what is conserved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sensitivity import Study, lrp
from sensitivity.estimators.lrp import relevance
from sensitivity.pretrained.text_encoder import TextEncoder, Tokenizer, info_nce, pair_batches
from sensitivity.relevance.rules import ATTN_LRP, CHEFER
from tests.sensitivity.estimators.lrp_cases import Attention, Fused, first_output, random, seeded
from tests.sensitivity.studies import make_study, state


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
