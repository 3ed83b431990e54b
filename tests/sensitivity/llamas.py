"""Tiny Llama checkpoints on disk, in many shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {
    "vocab_size": 96,
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def write_llama(folder: Path, *, shard: str = "8KB", scale: float = 1.0, **changes: Any) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        **{**SIZES, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3, **changes}
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():  # norms that do something
        for name, value in model.named_parameters():
            value.add_(torch.randn_like(value) / 4) if "norm" in name else value.mul_(scale)
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


def token_batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 96, shape, generator=generator) for shape in ((3, 12), (2, 20), (1, 1))]
