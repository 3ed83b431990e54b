"""What lies outside a profile: every stored tensor without a row, once, with its bytes and the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn

from allocator import Profile, solve
from quantize.checkpoints.safetensors import stored_tensors
from sensitivity import profile_model
from sensitivity.rows import find_rows
from sensitivity.rows.outside import outside_of


class Everything(nn.Module):
    """One of each thing that takes no format."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8, bias=False)
        self.tied.weight = self.lin.weight
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.mha = nn.MultiheadAttention(8, 2, batch_first=True)
        self.bag = nn.EmbeddingBag(10, 8)
        self.bn = nn.BatchNorm1d(8)
        self.up = nn.ConvTranspose1d(8, 8, 3)
        self.custom = nn.Parameter(torch.ones(3, 3))
        self.register_buffer("kept", torch.ones(5))
        self.register_buffer("forgotten", torch.ones(7), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.tied(self.lin(inputs))


def _profile(model: nn.Module, **options: object) -> Profile:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch).square().flatten(1).sum(1)

    data = [torch.randn(4, 3, 8)]
    return profile_model(model, data, loss, ["int4", "int8"], ["weight_error"], **options)  # type: ignore[arg-type]


def test_everything_without_a_row_is_listed_once_with_its_bytes_and_reason() -> None:
    model = Everything()
    profile = _profile(model)
    assert profile.outside is not None
    reasons = {item.name: item.reason for item in profile.outside}
    assert reasons["lstm.weight_ih_l0"] == "LSTM: not supported here"
    assert reasons["mha.in_proj_weight"] == "MultiheadAttention: not supported here"
    assert reasons["bag.weight"] == "EmbeddingBag: not supported here"
    assert reasons["up.weight"] == "ConvTranspose1d: not supported here"
    assert reasons["custom"] == "Everything: not supported here"
    assert (reasons["bn.weight"], reasons["lin.bias"], reasons["kept"]) == ("norm", "bias", "buffer")
    assert "forgotten" not in reasons
    stored = {id(value): value for value in model.state_dict(keep_vars=True).values()}
    planned = {id(model.lin.weight), id(model.mha.out_proj.weight)}
    size = sum(value.numel() * value.element_size() for key, value in stored.items() if key not in planned)
    assert sum(item.stored_bytes for item in profile.outside) == size
    assert profile.resources["weight_bytes"].constant == size


def test_a_budget_in_bytes_is_about_the_file_and_effective_bits_are_of_the_planned_rows() -> None:
    profile = _profile(Everything())
    outside = profile.resources["weight_bytes"].constant
    plan = solve(profile, budgets={"weight_bytes": outside + 144 + 80, "effective_bits": 8.25})
    assert plan.usage["weight_bytes"].used <= outside + 144 + 80
    assert plan.usage["effective_bits"].used == (plan.usage["weight_bytes"].used - outside) * 8 / 128
    assert solve(profile, budgets={"weight_bytes": outside}).status == "infeasible"


def test_layers_that_were_left_out_are_outside_and_warned_of() -> None:
    profile = _profile(Everything(), exclude=["mha.out_proj"])
    reasons = {item.name: item.reason for item in profile.outside or ()}
    assert reasons["mha.out_proj.weight"] == "left out of the rows that were asked for"
    (note,) = (
        note for note in solve(profile, budgets={"effective_bits": 9}).notes if note.about == "coverage"
    )
    assert note.severity == "warning"
    assert note.text.startswith(
        "only 5 % of the weights are planned; 4.8 kB are outside (LSTM, MultiheadAttention, "
    )
    assert " and 5 more kinds: not supported here); " in note.text
    assert note.text.endswith("the largest is 'lstm.weight_ih_l0', 1.02 kB")


def test_the_conv1d_of_gpt2_and_the_experts_of_a_mixture_are_seen() -> None:
    torch.manual_seed(0)
    gpt2 = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=32, n_positions=16)
    )
    rows, others = find_rows(gpt2, ["weight"])
    reasons = {item.name: item.reason for item in outside_of(gpt2, (*rows, *others))}
    assert reasons["transformer.h.0.attn.c_attn.weight"] == "Conv1D: not supported here"
    assert "lm_head.weight" not in reasons  # tied to the embedding, which is a row
    mixture = _mixtral()
    rows, others = find_rows(mixture, ["weight"])
    found = {item.name: item for item in outside_of(mixture, (*rows, *others))}
    assert found["model.layers.0.mlp.experts.down_proj"].reason == "experts: not supported here"
    rows, others = find_rows(mixture, ["weight", "expert"], exclude=["*.experts.0.down_proj"])
    found = {item.name: item for item in outside_of(mixture, (*rows, *others))}
    assert (
        found["model.layers.0.mlp.experts.down_proj"].stored_bytes == 16 * 8 * 4
    )  # the one that was excluded
    assert "model.layers.0.mlp.experts.gate_up_proj" not in found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_is_counted_as_it_is_stored(tmp_path: Path, dtype: torch.dtype) -> None:
    _mixtral().to(dtype).save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    rows, others = find_rows(loaded, ["weight"])
    found = outside_of(loaded, (*rows, *others), tmp_path)
    stored = stored_tensors(tmp_path)
    planned = {f"{row.name}.weight" for row in rows}
    assert {item.name for item in found} == set(stored) - planned
    assert all(item.stored_bytes == stored[item.name].end - stored[item.name].start for item in found)
    (expert,) = (item for item in found if item.name.endswith("experts.0.w1.weight"))
    assert expert.reason == "experts: not supported here"


def test_a_wrapper_before_the_names_of_a_checkpoint_is_seen_through(tmp_path: Path) -> None:
    bert = transformers.BertModel(
        transformers.BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=32
        )
    )
    bert.save_pretrained(tmp_path)
    wrapped = nn.ModuleDict({"backbone": bert})
    rows, others = find_rows(wrapped, ["weight"], exclude=["backbone.pooler.dense"])
    found = {item.name: item.reason for item in outside_of(wrapped, (*rows, *others), tmp_path)}
    assert found["pooler.dense.weight"] == "left out of the rows that were asked for"
    assert "encoder.layer.0.output.dense.weight" not in found
    assert found["encoder.layer.0.output.dense.bias"] == "bias"


def _mixtral() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        hidden_size=16, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        num_local_experts=4, vocab_size=32,
    )  # fmt: skip
    return transformers.MixtralForCausalLM(config)
