"""Which rows share a format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from sensitivity import Study
from sensitivity.rows import find_rows
from sensitivity.units.unit_rules import UNITS, units_of
from tests.sensitivity.decoders import TOKENS, bert, decoder_study, llama, mixtral
from tests.sensitivity.studies import Blocks, make_study, squares, state


class Residual(nn.Module):
    """A stem and two blocks of a ResNet; the second one halves the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1a, self.conv2a = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.conv1b, self.conv2b = nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.downsample = nn.Conv2d(4, 8, 1, stride=2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.stem(inputs).relu()
        hidden = (hidden + self.conv2a(self.conv1a(hidden).relu())).relu()
        outputs: Tensor = self.downsample(hidden) + self.conv2b(self.conv1b(hidden).relu_())
        return outputs


def residual_study(*kinds: str) -> Study:
    model = Residual()
    layers, others = find_rows(model, kinds or ("weight",))
    study = make_study(model, [torch.ones(2, 3, 8, 8)], squares)
    return Study(
        study.model, study.batches, study.loss_fn, layers, study.formats, 0, study.progress, others=others
    )


def groups(found: Mapping[str, str]) -> set[frozenset[str]]:
    by_unit: dict[str, set[str]] = defaultdict(set)
    for row, unit in found.items():
        by_unit[unit].add(row)
    return {frozenset(rows) for rows in by_unit.values()}


def block(names: str, index: int = 0) -> frozenset[str]:
    return frozenset(f"model.layers.{index}.{name}" for name in names.split())


QKV = "self_attn.q_proj self_attn.k_proj self_attn.v_proj"
GATE_UP = "mlp.gate_proj mlp.up_proj"


def test_nothing_is_shared_by_default() -> None:
    assert units_of("none", decoder_study(llama())) == {}


def test_vllm_fuses_query_key_value_and_gate_up() -> None:
    found = units_of("vllm", decoder_study(llama()))
    assert groups(found) == {block(QKV), block(GATE_UP), block(QKV, 1), block(GATE_UP, 1)}
    assert found["model.layers.1.mlp.up_proj"] == "model.layers.1.mlp.gate_up_proj"


def test_vllm_keeps_the_experts_of_a_block_and_all_caches_together() -> None:
    found = units_of("vllm", decoder_study(mixtral(), "weight", "expert", "activation", "kv_cache"))
    experts = " ".join(
        f"mlp.experts.{index}.{name}" for index in range(4) for name in ("gate_up_proj", "down_proj")
    )
    caches = frozenset(f"model.layers.{index}.self_attn.kv_cache" for index in range(2))
    assert groups(found) == {block(QKV), block(experts), block(QKV, 1), block(experts, 1), caches}


def test_vllm_knows_the_names_of_bert() -> None:
    model = bert()
    study = make_study(model, [TOKENS], lambda model, batch: model(batch).pooler_output.sum(1))
    name = "encoder.layer.0.attention.self"
    assert units_of("vllm", study)[f"{name}.value"] == f"{name}.qkv_proj"


def test_a_part_without_the_others_is_no_unit() -> None:
    model = llama()
    layers, _ = find_rows(model, ["weight"], ["*.q_proj", "*.k_proj", "*.gate_proj"])
    study = decoder_study(model)
    alone = Study(model, study.batches, study.loss_fn, layers, study.formats, 0, study.progress)
    assert units_of("vllm", alone) == {}


def test_a_downsampling_convolution_goes_with_the_first_of_its_block() -> None:
    found = units_of("shared_input", residual_study())
    assert groups(found) == {frozenset({"conv1b", "downsample"})}
    assert set(found.values()) == {"conv1b and siblings"}


def test_layers_that_read_the_same_tensor_share_without_knowing_their_names() -> None:
    assert groups(units_of("shared_input", decoder_study(llama()))) == {
        block(QKV),
        block(GATE_UP),
        block(QKV, 1),
        block(GATE_UP, 1),
    }


def test_inputs_that_are_rows_share_as_their_layers_do() -> None:
    found = units_of("shared_input", residual_study("weight", "activation"))
    assert groups(found) == {
        frozenset({"conv1b", "downsample"}),
        frozenset({"conv1b.input", "downsample.input"}),
    }


def test_a_layer_and_its_input_can_share_one_width() -> None:
    found = units_of("tied_input", residual_study("weight", "activation"))
    assert groups(found) == {
        frozenset({"conv1b", "downsample", "conv1b.input", "downsample.input"}),
        *(frozenset({name, f"{name}.input"}) for name in ("stem", "conv1a", "conv2a", "conv2b")),
    }


def test_a_tensor_changed_in_place_is_another() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = inputs * 2
            outputs: Tensor = self.first(hidden) + self.second(hidden.relu_())
            return outputs

    assert units_of("shared_input", make_study(InPlace(), [torch.ones(2, 4)], squares)) == {}


def test_a_layer_that_runs_twice_joins_those_it_reads_with() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.a(inputs) + self.b(inputs)
            outputs: Tensor = self.b(hidden) + self.c(hidden)
            return outputs

    study = make_study(Twice(), [torch.ones(2, 4)], squares)
    assert groups(units_of("shared_input", study)) == {frozenset("abc")}


def test_reading_also_works_where_the_loss_infers() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        with torch.inference_mode():
            return squares(model, batch * 1)

    model = Residual()
    study = make_study(model, [torch.ones(2, 3, 8, 8)], loss)
    assert groups(units_of("shared_input", study)) == {frozenset({"conv1b", "downsample"})}


def test_rules_of_ones_own() -> None:
    found = units_of(lambda study: {row.name: "all" for row in study.rows}, residual_study())
    assert set(found.values()) == {"all"}
    assert len(found) == 6


@pytest.mark.parametrize(
    ("rule", "detail"),
    [
        (lambda _: {"stme": "a"}, r"/units/stme: unknown row 'stme'; did you mean 'stem'"),
        (lambda _: {"stem": ""}, r"/units/stem: expected the name of a unit, got ''"),
        (lambda _: {"stem": 3}, r"/units/stem: expected the name of a unit, got 3"),
        (lambda _: ["stem"], r"/units: expected a mapping from rows to units, got list"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rule: Any, detail: str) -> None:
    with pytest.raises(InvalidInputError, match=detail):
        units_of(rule, residual_study())


@pytest.mark.parametrize("name", list(UNITS))
def test_the_model_is_as_it_was(name: str) -> None:
    study = make_study(Blocks(), [torch.ones(2, 4)], squares)
    before = state(study.model)
    units_of(name, study)
    assert state(study.model) == before
