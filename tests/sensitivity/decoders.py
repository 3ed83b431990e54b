"""Tiny models of transformers with random weights, and a loss per sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from quantize import parse_format
from sensitivity import Study
from sensitivity.rows import find_rows
from sensitivity.study.study import silent

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 50,
}
#: Three sequences of seven tokens.
TOKENS = torch.randint(0, 50, (3, 7), generator=torch.Generator().manual_seed(1))


def llama(**options: Any) -> nn.Module:
    """Two blocks, 4 query heads and 2 key heads of width 8."""
    torch.manual_seed(0)
    config = LlamaConfig(**{**_SIZES, "num_key_value_heads": 2, **options})
    return LlamaForCausalLM(config).eval()


def mixtral(**options: Any) -> nn.Module:
    """The same with four experts per block, two of which see a token."""
    torch.manual_seed(0)
    config = MixtralConfig(**{**_SIZES, "num_key_value_heads": 2, "num_local_experts": 4, **options})
    return MixtralForCausalLM(config).eval()


def bert(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return BertModel(BertConfig(**{**_SIZES, **options})).eval()


def next_token_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """(B,) mean cross entropy of the next token."""
    logits = logits_of(model, tokens)[:, :-1]
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return losses.reshape(len(tokens), -1).mean(1)


def logits_of(model: nn.Module, tokens: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=tokens).logits
    return logits


def decoder_study(
    model: nn.Module, *kinds: str, formats: tuple[str, ...] = ("int2", "int8-g8", "fp16")
) -> Study:
    layers, others = find_rows(model, kinds or ("weight",))
    parsed = tuple(parse_format(name) for name in formats)
    return Study(model, [TOKENS], next_token_loss, layers, parsed, 0, silent, others=others)
