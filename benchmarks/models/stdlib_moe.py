"""A mixture of experts that has read Python's standard library: four blocks with four experts, two for each token."""

from __future__ import annotations

from transformers import MixtralConfig, MixtralForCausalLM

from benchmarks.models.cache import seeded
from benchmarks.models.language import train_on_text
from benchmarks.models.stdlib_llama import VOCABULARY
from benchmarks.models.stdlib_text import stdlib_text
from benchmarks.models.trained import Trained
from sensitivity.models.expert_stacks import separate_experts


def load() -> Trained:
    """Train the model in about four minutes of one core, or read it from the cache.

    Returns:
        The model, with every expert a module of its own.
    """
    config = MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        use_cache=False,
        output_router_logits=True,  # adds the loss that keeps the experts equally busy
        router_aux_loss_coef=0.02,
    )
    with seeded(0):
        model = MixtralForCausalLM(config)
    separate_experts(model)
    trained = train_on_text("stdlib_moe", model, stdlib_text(VOCABULARY), steps=600)
    model.config.output_router_logits = False
    return trained
