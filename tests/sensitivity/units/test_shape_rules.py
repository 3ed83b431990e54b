"""Formats that shapes rule out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from allocator import InvalidInputError
from quantize import parse_format
from sensitivity import Study
from sensitivity.rows import find_rows
from sensitivity.units.shape_rules import Shape, at_least, group_divides, multiples_of, unfit
from tests.sensitivity.decoders import decoder_study, llama
from tests.sensitivity.studies import make_study, squares


def test_groups_must_divide_what_they_run_along() -> None:
    study = make_study(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 16), nn.Linear(16, 2)),
        [torch.ones(2, 2, 4, 4)],
        squares,
        ["int4", "int4-g4", "int4-g6", "fp16"],
    )
    assert unfit(study, [group_divides]) == {
        ("0", "int4-g4"): "groups of 4 do not divide 18",
        ("3", "int4-g6"): "groups of 6 do not divide 16",
    }


def test_activations_and_caches_have_widths_of_their_own() -> None:
    refused = unfit(
        decoder_study(llama(), "weight", "activation", "kv_cache", formats=("int4-g16", "fp16")),
        [group_divides],
    )
    assert refused == {
        (f"model.layers.{block}.self_attn.kv_cache", "int4-g16"): "groups of 16 do not divide 8"
        for block in range(2)
    }
    refused = unfit(decoder_study(llama(), "activation", formats=("int4-g12", "fp16")), [group_divides])
    assert set(refused.values()) == {"groups of 12 do not divide 32"}
    assert ("model.layers.0.mlp.down_proj.input", "int4-g12") not in refused


def test_inputs_of_convolutions_depend_on_the_picture_and_are_not_ruled_out() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3))
    layers, others = find_rows(model, ["weight", "activation"])
    study = make_study(model, [torch.ones(2, 2, 4, 4)], squares, ["int4-g5", "fp16"])
    both = Study(model, study.batches, squares, layers, study.formats, 0, study.progress, others=others)
    assert set(unfit(both, [group_divides])) == {("0", "int4-g5")}


INT4, FP16 = parse_format("int4"), parse_format("fp16")


def test_small_weights_stay_in_floating_point() -> None:
    rule = at_least(100)
    assert rule(Shape("a", (9,), 11), INT4) == "has 99 weights, fewer than 100"
    assert rule(Shape("a", (10,), 10), INT4) is None
    assert rule(Shape("a", (9,), 11), FP16) is None
    assert rule(Shape("a", (9,), None), INT4) is None


def test_sizes_that_a_kernel_does_not_tile() -> None:
    rule = multiples_of(128, 64)
    assert rule(Shape("a", (100,), 64), INT4) == "100 inputs are no multiple of 128"
    assert rule(Shape("a", (128,), 65), INT4) == "65 outputs are no multiple of 64"
    assert rule(Shape("a", (256,), 64), INT4) is None
    assert rule(Shape("a", (100,), 64), FP16) is None
    assert rule(Shape("a", (8, 8), None), INT4) is None


def test_the_first_rule_that_refuses_gives_the_reason() -> None:
    study = make_study(nn.Sequential(nn.Linear(6, 2)), [torch.ones(1, 6)], squares, ["int4-g4", "fp16"])
    assert unfit(study, [at_least(13), group_divides]) == {("0", "int4-g4"): "has 12 weights, fewer than 13"}
    assert unfit(study, [group_divides, at_least(13)]) == {("0", "int4-g4"): "groups of 4 do not divide 6"}
    assert unfit(study, []) == {}


def test_a_row_without_a_format_is_refused_with_all_reasons() -> None:
    study = make_study(nn.Sequential(nn.Linear(6, 2)), [torch.ones(1, 6)], squares, ["int4-g4", "int8-g8"])
    detail = (
        r"/layers/0: no format fits: int4-g4: groups of 4 do not divide 6; int8-g8: groups of 8 do not divide 6; "
        "add one that does, such as fp16, or exclude the row"
    )
    with pytest.raises(InvalidInputError, match=detail):
        unfit(study, [group_divides])


def test_rules_need_sizes_of_at_least_one() -> None:
    with pytest.raises(InvalidInputError, match="/shape_rules: expected at least 1 element, got 0"):
        at_least(0)
    with pytest.raises(
        InvalidInputError, match="/shape_rules: expected multiples of at least 1, got 128 and 0"
    ):
        multiples_of(128, 0)
