"""The benchmark's checkpoint is a real one."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from transformers import LlamaForCausalLM

from benchmarks.streaming import SIZES, write_checkpoint


def test_the_checkpoint_is_sharded_and_loads(tmp_path: Path) -> None:
    small = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 5, "vocab_size": 50}
    total = write_checkpoint(tmp_path, {**SIZES, **small, "num_attention_heads": 4}, blocks_per_shard=2)
    model, report = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16, output_loading_info=True)
    assert not any(report.values())
    assert total == sum(value.numel() * 2 for value in model.parameters())
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) == 4
    for shard in shards:
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                assert torch.equal(file.get_tensor(name), model.get_parameter(name))
    spread = float(model.get_parameter("model.layers.3.mlp.up_proj.weight").detach().float().std())
    assert abs(spread - 0.02) < 0.002
