"""Resources that are counted: weight_bytes, bops, mac_bits, kv_bytes, against their formulas."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from allocator import InvalidInputError
from sensitivity import Study
from sensitivity.resources import RESOURCES, Spent, bops, kv_bytes, mac_bits, weight_bytes
from sensitivity.rows import KINDS, find_rows
from tests.sensitivity.decoders import bert, decoder_study, llama, mixtral
from tests.sensitivity.studies import make_study, squares, state

FORMATS = ("int2", "uint4-g4", "int8-g8", "fp16", "fp32")
CACHES = [f"model.layers.{block}.self_attn.kv_cache" for block in range(2)]


def entries(spent: Spent, study: Study) -> dict[str, tuple[float | None, ...]]:
    return dict(zip((row.name for row in study.rows), spent.table.values, strict=True))


def picture_study(*formats: str) -> Study:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    return make_study(model, [torch.ones(2, 3, 6, 6)], squares, formats or FORMATS)


def test_weights_are_stored_as_their_format_says() -> None:
    study = decoder_study(mixtral(), *KINDS, formats=FORMATS)
    found = entries(weight_bytes(study), study)
    # (16, 32) in uint4-g4: 16 rows of 8 groups of 2 B of codes, 2 B of scale and half a byte of zero point
    assert found["model.layers.0.self_attn.k_proj"] == (
        16 * (8 + 2),
        16 * 8 * (2 + 2) + 16 * 4,
        16 * 4 * (8 + 2),
        512 * 2,
        512 * 4,
    )
    # all experts of a block together take what the stack (4 · 96, 32) would
    experts = [found[f"model.layers.0.mlp.experts.{index}.gate_up_proj"] for index in range(4)]
    assert [sum(column) for column in zip(*experts, strict=True)] == [
        fmt.stored_bytes((4 * 96, 32)) for fmt in study.formats
    ]
    assert found["model.layers.0.self_attn.k_proj.input"] == found[CACHES[0]] == (0,) * 5
    assert weight_bytes(study).table.unit == "byte"


def test_bit_operations_are_macs_times_both_widths() -> None:
    study = picture_study()
    spent = bops(study)
    convolution, linear = 4 * 6 * 6 * 3 * 3 * 3, 4 * 36 * 10
    assert spent.table.values == tuple(
        tuple(float(macs * bits * (32 if bits == 32 else 16)) for bits in (2, 4, 8, 16, 32))
        for macs in (convolution, linear)
    )
    assert spent.table.unit == "bop"


def test_attention_has_bit_operations_too() -> None:
    study = decoder_study(llama(), "weight", "kv_cache")
    macs = 4 * 7 * 7 * 8 * 2
    assert entries(bops(study), study)[CACHES[1]] == (macs * 2 * 16, macs * 8 * 16, macs * 16 * 16)


def test_widths_of_weight_and_input_can_be_tied_as_in_hawq() -> None:
    model = nn.Sequential(nn.Linear(6, 2))
    layers, others = find_rows(model, ["weight", "activation"])
    plain = make_study(model, [torch.ones(3, 6)], squares, ["int4", "int8"])
    study = Study(model, plain.batches, squares, layers, plain.formats, 0, plain.progress, others=others)
    assert bops(study, inputs="tied").table.values == ((12 * 16, 12 * 64), (0, 0))
    assert bops(plain, inputs="tied").table.values == ((12 * 16, 12 * 64),)
    with pytest.raises(
        InvalidInputError, match="/resources/bops: bit operations multiply the bits of a weight by"
    ):
        bops(study)


def test_tied_is_spelt_right() -> None:
    with pytest.raises(
        InvalidInputError, match="/resources/bops/inputs: expected 'format' or 'tied', got 'same'"
    ):
        bops(picture_study(), inputs="same")  # type: ignore[arg-type]


def test_mac_bits_are_a_mean_weighted_with_work() -> None:
    spent = mac_bits(picture_study("int2", "int8"))
    convolution, linear = 3888, 1440
    by_hand = [[macs / (convolution + linear) * bits for bits in (2, 8)] for macs in (convolution, linear)]
    assert spent.table.values == tuple(map(tuple, by_hand))
    uniform = [sum(column) for column in zip(*spent.table.values, strict=True)]
    assert uniform == pytest.approx([2, 8], rel=1e-12)


def test_only_weights_count_for_mac_bits() -> None:
    study = decoder_study(llama(), *("weight", "activation", "kv_cache"))
    plain = decoder_study(llama())
    both, alone = entries(mac_bits(study), study), entries(mac_bits(plain), plain)
    assert both | alone == both
    assert {both[name] for name in both if name not in alone} == {(0.0, 0.0, 0.0)}


def test_mac_bits_need_work() -> None:
    study = make_study(nn.Sequential(nn.Embedding(4, 2)), [torch.zeros(2, 1, dtype=torch.int64)], squares)
    with pytest.raises(InvalidInputError, match="/resources/mac_bits: no weight row multiplies anything"):
        mac_bits(study)


@settings(max_examples=25, deadline=None)
@given(context=st.integers(1, 9000), batch=st.integers(1, 64))
def test_kv_bytes_without_scales_are_the_familiar_formula(context: int, batch: int) -> None:
    study = LLAMA
    (values, *_) = (entries(kv_bytes(study, context, batch), study)[name] for name in CACHES)
    heads, width = 2, 8
    assert values[2] == 2 * batch * context * heads * width * 16 / 8
    # int2: 2 B of codes and 2 B of scale per head of width 8; int8-g8: 8 B and 2 B
    assert values[:2] == (2 * batch * context * heads * 4, 2 * batch * context * heads * 10)


LLAMA = decoder_study(llama(), "weight", "kv_cache")


def test_kv_bytes_take_the_calibration_length_where_none_is_given() -> None:
    assert kv_bytes(LLAMA).table == kv_bytes(LLAMA, context=7, batch=1).table
    assert kv_bytes(LLAMA).note == "7 tokens, batch 1; 0 caches without a row in fp16"
    assert entries(kv_bytes(LLAMA), LLAMA)["lm_head"] == (0, 0, 0)


def test_a_window_bounds_the_cache() -> None:
    study = decoder_study(mixtral(sliding_window=5), "kv_cache")
    assert kv_bytes(study, 4096).table == kv_bytes(study, 5).table
    assert kv_bytes(study, 4).table != kv_bytes(study, 5).table


def test_caches_without_a_row_are_the_constant() -> None:
    study = decoder_study(llama())
    spent = kv_bytes(study, context=100, batch=3)
    assert spent.table.constant == 2 * (2 * 3 * 100 * 2 * 8 * 2)
    assert {value for row in spent.table.values for value in row} == {0}
    assert kv_bytes(study, 100, 3, rest="fp32").table.constant == 2 * spent.table.constant
    assert "2 caches without a row in fp16" in spent.note


def test_kv_bytes_of_an_encoder_and_of_nothing_are_refused() -> None:
    encoder = make_study(
        bert(), [torch.zeros(1, 3, dtype=torch.int64)], lambda model, batch: model(batch).pooler_output.sum(1)
    )
    with pytest.raises(InvalidInputError, match="/resources/kv_bytes: BertModel keeps no KV cache"):
        kv_bytes(encoder)
    with pytest.raises(InvalidInputError, match="/resources/kv_bytes/context: expected at least 1, got 0"):
        kv_bytes(LLAMA, context=0)
    with pytest.raises(InvalidInputError, match="/resources/kv_bytes/batch: expected at least 1, got -2"):
        kv_bytes(LLAMA, batch=-2)


@pytest.mark.parametrize("name", [name for name in RESOURCES if name != "latency_us"])
def test_every_resource_is_whole_repeatable_and_leaves_the_model_as_it_was(name: str) -> None:
    study = decoder_study(mixtral(), "weight", "expert", "kv_cache")
    before = state(study.model)
    first, second = (RESOURCES[name](study) for _ in range(2))
    assert state(study.model) == before
    assert first == second
    assert len(first.table.values) == len(study.rows)
    for row in first.table.values:
        assert len(row) == len(study.formats)
        assert all(value is not None and math.isfinite(value) and value >= 0 for value in row)


@pytest.mark.parametrize("resource", [weight_bytes, bops, mac_bits, partial(kv_bytes, context=50)])
def test_more_bits_never_spend_less(resource: partial[Spent]) -> None:
    study = decoder_study(llama(), "weight", "kv_cache", formats=("int2", "int4", "int8", "fp16", "fp32"))
    for row in resource(study).table.values:
        assert list(row) == sorted(row)
