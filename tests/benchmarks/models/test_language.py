"""Language models: small ones trained for a few steps here, the real ones behind the long marker."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from benchmarks.models import stdlib_llama, stdlib_moe
from benchmarks.models.cache import seeded
from benchmarks.models.language import perplexity, train_on_text
from benchmarks.models.stdlib_text import Text, tokenize
from benchmarks.models.trained import Trained
from quantize import parse_format
from sensitivity import discover
from sensitivity.models.blocks import find_blocks
from sensitivity.models.expert_stacks import separate_experts
from sensitivity.pretrained.language_model import next_token_loss
from sensitivity.study.study import replaced, rounded

SIZES = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
    "use_cache": False,
}


def llama() -> nn.Module:
    with seeded(0):
        return LlamaForCausalLM(LlamaConfig(**SIZES))


def mixture() -> nn.Module:
    with seeded(0):
        model = MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=3, output_router_logits=True))
    separate_experts(model)
    return model


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Text:
    monkeypatch.setenv("BITALLOC_CACHE", str(tmp_path))
    return tokenize([f"def f{index}(x):\n    return x + {index}\n" * 40 for index in range(60)], 300)


def test_training_lowers_the_perplexity(text: Text) -> None:
    trained = train_on_text("small", llama(), text, steps=40)
    assert perplexity(trained) < perplexity(train_on_text("start", llama(), text, steps=1)) / 3


@pytest.mark.parametrize("make", [llama, mixture])
def test_training_gives_the_same_bits_again(
    make: Callable[[], nn.Module], text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train_on_text("small", make(), text, steps=4)
    monkeypatch.setenv("BITALLOC_CACHE", str(tmp_path / "elsewhere"))
    again = train_on_text("small", make(), text, steps=4)
    for before, one, other in zip(
        make().parameters(), trained.model.parameters(), again.model.parameters(), strict=True
    ):
        assert one.detach().numpy().tobytes() == other.detach().numpy().tobytes()
        assert one.grad is None
        assert not torch.equal(one, before)


def test_losses_and_perplexity_are_those_of_the_definition(text: Text) -> None:
    trained = train_on_text("small", llama(), text, steps=2)
    batch = trained.held_out[0]
    with torch.no_grad():
        chances = trained.logits(trained.model, batch).double().softmax(-1)
        losses = next_token_loss(trained.model, batch)
    slow = np.array(
        [
            np.mean([-math.log(chances[row, place - 1, batch[row, place]]) for place in range(1, 128)])
            for row in range(len(batch))
        ]
    )
    np.testing.assert_allclose(losses.numpy(), slow, rtol=1e-5)
    all_losses = [
        float(loss) for part in trained.held_out for loss in next_token_loss(trained.model, part).detach()
    ]
    assert perplexity(trained) == pytest.approx(math.exp(np.mean(all_losses)), rel=1e-6)


def test_calibration_and_held_out_text_are_different_sequences(text: Text) -> None:
    trained = train_on_text("small", llama(), text, steps=1)
    rows = [
        [row.tolist() for batch in part for row in batch] for part in (trained.calibration, trained.held_out)
    ]
    assert all(batch.shape[1] == 128 for batch in (*trained.calibration, *trained.held_out))
    assert not any(row in rows[0] for row in rows[1])


def perplexity_at(trained: Trained, name: str) -> float:
    """With every layer in one format."""
    with ExitStack() as stack:
        for layer in discover(trained.model):
            stack.enter_context(replaced(layer, rounded(layer, parse_format(name))))
        return perplexity(trained)


@pytest.mark.long
@pytest.mark.parametrize(
    ("load", "layers"),
    [
        pytest.param(stdlib_llama.load, 29, id="llama"),
        pytest.param(stdlib_moe.load, 65, id="moe", marks=pytest.mark.rare),
    ],
)
def test_the_real_ones_feel_their_bits(load: Callable[[], Trained], layers: int) -> None:
    trained = load()
    names = [layer.name for layer in discover(trained.model)]
    assert len(names) == layers
    assert len(find_blocks(trained.model)) == 4
    full = perplexity(trained)
    assert full < 32
    assert perplexity_at(trained, "int8") == pytest.approx(full, rel=0.01)
    int4, int3, int2 = (perplexity_at(trained, name) / full for name in ("int4", "int3", "int2"))
    assert 1.02 < int4 < 1.10 < int3 < 1.5 < int2
