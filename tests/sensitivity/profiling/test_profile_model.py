"""Profiles of small models, end to end."""

from __future__ import annotations

from functools import partial
from importlib import metadata
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sensitivity
from allocator import InvalidInputError, Profile, load_profile
from quantize import parse_format
from sensitivity import ESTIMATORS, fisher, hessian_trace, profile_model
from sensitivity.study.calibration import digest
from tests.sensitivity.studies import Blocks, squares, state

FORMATS = ["int2-g4", "uint4-g4", "int8", "fp16"]
BATCHES = [torch.linspace(-1, 1, 20).reshape(5, 4), torch.linspace(2, -1, 12).reshape(3, 4)]


def profiled(model: nn.Module | None = None, **options: Any) -> Profile:
    given = {"formats": FORMATS, "estimators": ["fisher", "hessian_trace"], **options}
    return profile_model(Blocks() if model is None else model, BATCHES, squares, **given)


def test_rows_are_layers_and_columns_are_formats() -> None:
    profile = profiled()
    assert [layer.name for layer in profile.layers] == [
        "stem",
        "blocks.0.0",
        "blocks.1.0",
        "blocks.2.0",
        "head",
    ]
    assert [layer.parameters for layer in profile.layers] == [24, 36, 36, 36, 18]
    assert list(profile.formats) == FORMATS
    assert profile.formats["uint4-g4"] == parse_format("uint4-g4").describe()
    assert list(profile.costs) == ["fisher", "hessian_trace"]
    for table in profile.costs.values():
        assert table.stderr is not None
        assert len(table.values) == len(table.stderr) == 5
        assert {len(row) for row in (*table.values, *table.stderr)} == {4}


def test_weight_bytes_are_exact() -> None:
    profile = profiled()
    # stem is (6, 4): 6 rows of one group of 4 weights, with a scale of 2 bytes, and a zero point on a byte of its own
    assert profile.resources["weight_bytes"].values[0] == (6 * (1 + 2), 6 * (2 + 2 + 1), 6 * (4 + 2), 24 * 2)
    # head is (3, 6): 3 rows of two groups, the second padded
    assert profile.resources["weight_bytes"].values[4] == (
        3 * 2 * (1 + 2),
        3 * (2 * (2 + 2) + 1),
        3 * (6 + 2),
        18 * 2,
    )
    assert profile.resources["weight_bytes"].unit == "byte"
    assert list(profile.resources) == ["weight_bytes"]


def test_the_profile_says_where_it_comes_from() -> None:
    profile = profiled(name="blocks of mine", seed=7)
    assert profile.model == "blocks of mine"
    assert profiled().model == "Blocks"
    assert profile.provenance.seed == 7
    assert profile.provenance.data_sha256 == digest(BATCHES)
    assert profile.provenance.versions == {
        name: metadata.version(name) for name in ("bitalloc", "torch", "numpy")
    }


def test_the_same_input_gives_the_same_profile_bit_for_bit() -> None:
    first, second = profiled(), profiled()
    assert first.model_dump_json() == second.model_dump_json()
    assert first.digest() == second.digest()
    assert profiled(seed=1).digest() != first.digest()


def test_profiles_survive_being_written_and_read() -> None:
    profile = profiled()
    assert load_profile(profile.model_dump_json()) == profile


def test_tables_can_be_named_and_their_options_bound() -> None:
    profile = profiled(estimators={"once": partial(hessian_trace, probes=1), "many": fisher})
    assert list(profile.costs) == ["once", "many"]
    assert profile.costs["once"].stderr is None
    assert profile.costs["many"] == profiled().costs["fisher"]


def test_estimators_that_need_nothing_else_are_known_by_name() -> None:
    assert {"hessian_trace", "fisher", "lrp", "lim", "zd", "output_mse", "loss", "weight_error"} <= set(
        ESTIMATORS
    )
    assert all(getattr(sensitivity, name) is estimate for name, estimate in ESTIMATORS.items())


def test_without_estimators_there_are_sizes_only() -> None:
    profile = profiled(estimators=[])
    assert profile.costs == {}
    assert profile.resources == profiled().resources


def test_excluded_layers_have_no_row() -> None:
    profile = profiled(exclude=["blocks.*", "head"])
    assert [layer.name for layer in profile.layers] == ["stem"]


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    profiled(estimators=["fisher"], progress=lambda *step: told.append(step))
    assert told == [("fisher", 1, 2), ("fisher", 2, 2)]


# The model afterwards


def partly_frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    model[2].eval()
    model[0].weight.requires_grad_(False)
    return model


def test_the_model_is_used_in_evaluation_mode_and_is_as_it_was_afterwards() -> None:
    model = partly_frozen()
    before = state(model)
    modes = set()

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        modes.update(module.training for module in model.modules())
        return squares(model, batch)

    profile_model(model, BATCHES, loss, FORMATS, ["fisher", "hessian_trace"])
    assert modes == {False}
    assert state(model) == before


def _broken(model: nn.Module, batch: Tensor) -> Tensor:
    model(batch)
    raise RuntimeError("broke")


def test_the_model_is_as_it_was_when_the_loss_raises() -> None:
    model = partly_frozen()
    before = state(model)
    with pytest.raises(RuntimeError, match="broke"):
        profile_model(model, BATCHES, _broken, FORMATS, ["fisher"])
    assert state(model) == before


def test_the_model_is_as_it_was_when_an_estimator_raises() -> None:
    model = partly_frozen()
    before = state(model)
    with pytest.raises(InvalidInputError, match="/probes: expected at least 1 probe"):
        profile_model(model, BATCHES, squares, FORMATS, {"none": partial(hessian_trace, probes=0)})
    assert state(model) == before


# Refusals


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="/formats: unknown format 'int9'"):
        profiled(formats=["int8", "int9"])


@pytest.mark.parametrize("formats", [[], ["int4", "int8", "int4"]])
def test_no_formats_and_the_same_format_twice_are_refused(formats: list[str]) -> None:
    with pytest.raises(InvalidInputError, match="/formats: expected distinct formats, got "):
        profiled(formats=formats)


def test_what_discovery_and_calibration_refuse_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="/exclude/0: unknown layer or glob 'tail'"):
        profiled(exclude=["tail"])
    with pytest.raises(InvalidInputError, match="/batches: expected at least one calibration batch"):
        profile_model(Blocks(), [], squares, FORMATS, ["fisher"])
    with pytest.raises(InvalidInputError, match="/loss_fn: expected one loss per sample"):
        profile_model(
            Blocks(), BATCHES, lambda model, batch: squares(model, batch).mean(), FORMATS, ["fisher"]
        )


def test_weights_that_do_not_fit_a_format_are_refused() -> None:
    model = Blocks()
    with torch.no_grad():
        model.head.weight[0, 0] = 1e6
    with pytest.raises(
        InvalidInputError,
        match=r"/layers/head: weights reach 1e.06, which needs scales beyond half precision",
    ):
        profiled(model, formats=["int2"])


def test_weights_that_do_not_fit_a_format_are_refused_by_layer() -> None:
    model = Blocks()
    with torch.no_grad():
        model.head.weight[0, 0] = 1e6
    with pytest.raises(InvalidInputError, match="head"):
        profiled(model, formats=["int2"])


def test_a_model_that_is_a_single_layer_is_refused_with_advice() -> None:
    detail = r"/model: the model is a single Linear without a name; wrap it in nn\.Sequential"
    with pytest.raises(InvalidInputError, match=detail):
        profiled(nn.Linear(4, 2))


def test_a_table_that_is_called_like_the_resource_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="weight_bytes"):
        profiled(estimators={"weight_bytes": fisher})
