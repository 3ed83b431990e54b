"""All kinds of rows together."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from allocator import InvalidInputError
from quantize import parse_format
from sensitivity import measured
from sensitivity.rows import KINDS, Row, applied, find_rows, kind_of, weight_shape
from tests.sensitivity.decoders import TOKENS, bert, decoder_study, llama, logits_of, mixtral
from tests.sensitivity.models.test_layers import Tied
from tests.sensitivity.studies import state


def names(model: nn.Module, kinds: list[str], *exclude: str) -> list[str]:
    layers, others = find_rows(model, kinds, exclude)
    return [row.name for row in (*layers, *others)]


def test_rows_come_kind_by_kind_whatever_the_order_asked_for() -> None:
    found = names(mixtral(), ["kv_cache", "activation", "expert", "weight"])
    ends = [name.rpartition(".")[2] for name in found]
    assert ends[:2] == ["embed_tokens", "q_proj"]
    assert [ends.index(end) for end in ("gate_up_proj", "input", "kv_cache")] == [10, 26, 35]
    assert len(found) == 37


def test_kinds_and_shapes_are_those_of_a_profile() -> None:
    layers, others = find_rows(mixtral(), KINDS)
    rows: dict[str, Row] = {row.name: row for row in (*layers, *others)}
    block = "model.layers.0"
    told = {
        f"{block}.self_attn.k_proj": ("weight", (16, 32)),
        f"{block}.mlp.experts.0.down_proj": ("weight", (32, 48)),
        f"{block}.self_attn.k_proj.input": ("activation", None),
        f"{block}.self_attn.kv_cache": ("kv_cache", None),
    }
    assert {name: (kind_of(rows[name]), weight_shape(rows[name])) for name in told} == told


def test_caches_alone_can_be_planned() -> None:
    layers, others = find_rows(llama(), ["kv_cache"])
    assert layers == ()
    assert len(others) == 2


def test_any_row_can_be_excluded_by_name_or_glob() -> None:
    kinds = ["weight", "activation"]
    assert names(Tied(), kinds) == ["embed", "middle", "middle.input", "head.input"]
    assert names(Tied(), kinds, "middle") == ["embed", "head.input"]
    assert names(Tied(), kinds, "middle.input") == ["embed", "middle", "head.input"]
    assert names(Tied(), kinds, "*.input") == ["embed", "middle"]
    assert names(Tied(), kinds, "head") == ["middle", "middle.input"]
    assert names(Tied(), kinds, "middle*") == ["embed", "head.input"]


def test_patterns_that_match_no_row_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"/exclude/1: unknown layer or glob 'middle\.output'"):
        names(Tied(), ["weight", "activation"], "middle", "middle.output")
    with pytest.raises(InvalidInputError, match=r"/exclude/0: unknown layer or glob 'middle\.input'"):
        names(Tied(), ["weight"], "middle.input")


def test_unknown_repeated_and_no_kinds_are_refused() -> None:
    with pytest.raises(
        InvalidInputError, match="/rows: unknown kind of row 'weights'; did you mean 'weight'"
    ):
        names(Tied(), ["weights"])
    for kinds in ([], ["weight", "weight"]):
        with pytest.raises(InvalidInputError, match="/rows: expected distinct kinds of rows, got"):
            names(Tied(), kinds)


@pytest.mark.parametrize(("model", "kind"), [(bert, "kv_cache"), (llama, "expert")])
def test_kinds_that_a_model_does_not_have_are_refused(model, kind: str) -> None:
    with pytest.raises(
        InvalidInputError, match=rf"/rows: \w+ has no rows of kind '{kind}'; leave the kind out"
    ):
        names(model(), ["weight", kind])


def test_every_kind_changes_the_outputs_and_leaves_the_model_as_it_was() -> None:
    model = mixtral()
    study = decoder_study(model, *KINDS)
    before = state(model)
    with torch.inference_mode():
        original = logits_of(model, TOKENS)
        for row in study.rows:
            with applied(study, row, parse_format("int2")):
                assert not torch.equal(logits_of(model, TOKENS), original), row.name
            with applied(study, row, parse_format("fp32")):
                assert torch.equal(logits_of(model, TOKENS), original), row.name
    assert state(model) == before


def test_measured_tables_have_all_rows_and_reuse_changes_no_bit() -> None:
    study = decoder_study(mixtral(), *KINDS, formats=("int2", "int4-g8"))

    def gap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - second).square().flatten(1).sum(1)

    table = partial(measured, name="gap", outputs=logits_of, distance=gap, meaning="squared distance")(study)
    assert len(table.values) == len(study.rows) == 37
    with torch.inference_mode():
        original = logits_of(study.model, TOKENS)
        for row, values in zip(study.rows, table.values, strict=True):
            for fmt, value in zip(study.formats, values, strict=True):
                with applied(study, row, fmt):
                    slow = gap(original, logits_of(study.model, TOKENS)).double().mean().item()
                assert value == slow
                assert value > 0
