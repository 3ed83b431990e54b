"""Small language models with random weights, as transformers builds them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def mixtral() -> nn.Module:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=32,
        initializer_range=0.3,
        experts_implementation="eager",
    )
    model: nn.Module = MixtralForCausalLM(config)
    return model.eval()


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    model: nn.Module = LlamaForCausalLM(config)
    return model.eval()


def tokens(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(0, 32, (count, 8), generator=torch.Generator().manual_seed(seed))


def logits(model: nn.Module, batch: Tensor) -> Tensor:
    """(B, T, V)."""
    made: Tensor = model(batch).logits
    return made


def next_token(model: nn.Module, batch: Tensor) -> Tensor:
    """One loss per sequence."""
    logits = model(batch).logits[:, :-1]
    losses = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
    return losses.reshape(len(batch), -1).mean(1)
