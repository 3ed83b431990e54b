"""Profiles with other rows, units, nulls and resources, end to end and into a plan."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError, Profile, load_profile, solve
from sensitivity import activation_bytes, kv_bytes, latency_us, measured, profile_model, roofline
from sensitivity.resources import RESOURCES
from sensitivity.rows import KINDS
from sensitivity.study.study import Study
from sensitivity.units.shape_rules import at_least, group_divides
from tests.sensitivity.decoders import TOKENS, llama, logits_of, mixtral, next_token_loss
from tests.sensitivity.studies import Blocks, squares, state

FORMATS = ["int2-g8", "int4-g16", "fp16"]
CACHES = [f"model.layers.{block}.self_attn.kv_cache" for block in range(2)]


def gap(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().flatten(1).sum(1)


MEASURED = partial(measured, name="gap", outputs=logits_of, distance=gap, meaning="squared distance")


def profiled(model: nn.Module | None = None, **options: Any) -> Profile:
    given = {"formats": FORMATS, "estimators": {"gap": MEASURED}, **options}
    return profile_model(llama() if model is None else model, [TOKENS], next_token_loss, **given)


def test_every_kind_of_row_is_described() -> None:
    profile = profiled(mixtral(), rows=KINDS, units="vllm", resources=["weight_bytes", "kv_bytes"])
    rows = {row.name: row for row in profile.layers}
    expert = rows["model.layers.0.mlp.experts.3.down_proj"]
    assert (expert.kind, expert.parameters, expert.unit) == ("weight", 32 * 48, "model.layers.0.mlp.experts")
    cache = rows[CACHES[0]]
    assert (cache.kind, cache.parameters, cache.unit) == ("kv_cache", None, "kv_cache")
    assert cache.macs == 4 * 7 * 7 * 8 * 2
    activation = rows["lm_head.input"]
    assert (activation.kind, activation.parameters, activation.macs) == ("activation", None, None)
    assert rows["lm_head"].macs == 7 * 32 * 50
    assert len(profile.costs["gap"].values) == len(profile.layers) == 36  # vLLM keeps the embedding as it is
    assert load_profile(profile.model_dump_json()) == profile


def test_weights_and_caches_are_planned_under_one_budget_each() -> None:
    profile = profiled(
        rows=["weight", "kv_cache"],
        units="vllm",
        resources={
            "weight_bytes": RESOURCES["weight_bytes"],
            "kv_bytes": partial(kv_bytes, context=1000),
        },
    )
    bits = {name: table.values for name, table in profile.resources.items()}
    free = sum(row[2] for row in bits["kv_bytes"])
    most = profile.resources["weight_bytes"].constant + 12_000  # what is outside is in the file too
    plan = solve(profile, objective="gap", budgets={"weight_bytes": most, "kv_bytes": free / 2})
    assert plan.assignment is not None
    assert plan.assignment[CACHES[0]] == plan.assignment[CACHES[1]] == "int2-g8"
    assert (
        plan.assignment["model.layers.0.self_attn.q_proj"]
        == plan.assignment["model.layers.0.self_attn.v_proj"]
    )
    assert plan.usage["weight_bytes"].used <= most


def test_what_does_not_fit_is_null_in_every_table_with_its_reason() -> None:
    profile = profiled(
        rows=["weight", "kv_cache"],
        units="vllm",
        shape_rules=[at_least(800)],
        resources=["weight_bytes", "bops"],
    )
    names = [row.name for row in profile.layers]
    column = FORMATS.index("int4-g16")
    small = "model.layers.1.self_attn.k_proj"
    for table in (profile.costs["gap"], *profile.resources.values()):
        assert table.values[names.index(CACHES[0])][column] is None
        assert table.values[names.index(small)][:2] == (None, None)
        assert None not in table.values[names.index("model.layers.0.mlp.down_proj")]
    assert profile.costs["gap"].stderr is not None
    assert profile.costs["gap"].stderr[names.index(small)][:2] == (None, None)
    notes = profile.provenance.notes
    assert notes[f"/layers/{CACHES[0]}/int4-g16"] == "groups of 16 do not divide 8"
    assert notes[f"/layers/{small}/int2-g8"] == "has 512 weights, fewer than 800"
    assert notes["/resources/bops"].startswith("multiply-accumulates of one sample")
    plan = solve(profile, objective="weight_bytes", budgets={"gap": 1e9})
    assert plan.assignment is not None
    assert plan.assignment[small] == "fp16"
    assert plan.assignment["model.layers.1.self_attn.q_proj"] == "fp16"  # of the same unit


def test_what_a_source_cannot_say_is_null_in_its_table_only() -> None:
    t4 = partial(latency_us, source=partial(roofline, device="nvidia-t4"), tokens=1)
    profile = profiled(
        formats=["int4-g8", "bf16"], resources={"weight_bytes": RESOURCES["weight_bytes"], "t4_us": t4}
    )
    assert {row[1] for row in profile.resources["t4_us"].values} == {None}
    assert None not in {row[1] for row in profile.resources["weight_bytes"].values}
    notes = profile.provenance.notes
    assert notes["/resources/t4_us/lm_head/bf16"] == "NVIDIA T4 16 GB has no peak for bf16"
    assert notes["/resources/t4_us"] == "roofline of NVIDIA T4 16 GB, not measured; batch 1"


def test_a_peak_is_a_budget_on_the_worst_row() -> None:
    profile = profiled(rows=["weight", "activation"], resources={"peak": activation_bytes})
    values = [row for row in profile.resources["peak"].values if row != (0, 0, 0)]
    least = max(min(row) for row in values)
    plan = solve(profile, objective="gap", budgets={"peak": least})
    assert plan.usage["peak"].used <= least
    assert max(row[2] for row in values) > least


def test_units_of_ones_own_reach_the_profile() -> None:
    def by_block(study: Study) -> dict[str, str]:
        return {row.name: row.name.rpartition(".")[0] for row in study.rows if row.name.startswith("blocks")}

    profile = profile_model(
        Blocks(), [torch.ones(2, 4)], squares, ["int4", "fp16"], ["fisher"], units=by_block
    )
    assert [row.unit for row in profile.layers] == [None, "blocks.0", "blocks.1", "blocks.2", None]


def test_work_of_a_sample_is_on_every_row() -> None:
    profile = profile_model(Blocks(), [torch.ones(3, 4)], squares, ["int4"], ["fisher"])
    assert [row.macs for row in profile.layers] == [24, 36, 36, 36, 18]


# Refusals


@pytest.mark.parametrize("name", ["fisher", "hessian_trace"])
@pytest.mark.parametrize("rows", [["weight", "kv_cache"], ["kv_cache"]])
def test_estimators_of_weights_refuse_other_rows_before_they_start(name: str, rows: list[str]) -> None:
    detail = (
        rf"/rows: {name} is about weights of layers; 'model\.layers\.0\.self_attn\.kv_cache'.* measured table"
    )
    with pytest.raises(InvalidInputError, match=detail):
        profiled(rows=rows, estimators=[name])


def test_a_table_with_too_few_rows_is_refused() -> None:
    def short(study: Study) -> Any:
        return MEASURED(
            Study(study.model, study.batches, study.loss_fn, study.layers, study.formats, 0, study.progress)
        )

    with pytest.raises(
        InvalidInputError, match="/estimators/gap: the table has 16 rows and the profile has 18"
    ):
        profiled(rows=["weight", "kv_cache"], estimators={"gap": short})


def test_a_cost_table_cannot_have_the_name_of_a_resource() -> None:
    with pytest.raises(InvalidInputError, match="/estimators: 'bops' is the name of the resource"):
        profiled(estimators={"bops": MEASURED}, resources=["bops"])


def test_a_group_that_fits_nowhere_is_refused_before_the_work() -> None:
    calls: list[int] = []

    def counting(study: Study) -> Any:
        calls.append(1)
        return MEASURED(study)

    with pytest.raises(InvalidInputError, match="no format fits: int4-g64: groups of 64 do not divide 32"):
        profiled(formats=["int4-g64"], estimators={"gap": counting}, shape_rules=[group_divides])
    assert not calls


def test_the_model_is_as_it_was_afterwards() -> None:
    model = mixtral()
    before = state(model)
    resources = [name for name in RESOURCES if name not in ("latency_us", "bops")]
    profiled(model, rows=KINDS, units="shared_input", resources=resources, formats=["int2-g8", "fp16"])
    assert state(model) == before
