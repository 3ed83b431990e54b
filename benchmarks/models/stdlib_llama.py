"""A Llama of four blocks and 0.9 million weights, trained on Python's standard library until bits matter."""

from __future__ import annotations

from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.models.cache import seeded
from benchmarks.models.language import train_on_text
from benchmarks.models.stdlib_text import stdlib_text
from benchmarks.models.trained import Trained

VOCABULARY = 1024


def load() -> Trained:
    """Train the model in about three minutes of one core, or read it from the cache.

    Returns:
        The model; its embedding is also its output projection, and two query heads share a key and a value head.
    """
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        use_cache=False,
    )
    with seeded(0):
        model = LlamaForCausalLM(config)
    return train_on_text("stdlib_llama", model, stdlib_text(VOCABULARY), steps=600)
