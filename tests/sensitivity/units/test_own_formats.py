"""Formats that bring their own functions, from the tables to the plan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError, Profile, solve
from quantize import FORMATS, own_format, parse_format, register_format, restored
from quantize.formats import GROUP, StorageFormat
from quantize.rounding.nearest import Float32Array
from sensitivity.models.layers import discover
from sensitivity.plans.planned import Planned, distance_of_plans
from sensitivity.profiling.profile_model import profile_model
from sensitivity.study.input_moments import input_moments
from tests.quantize.ggml.marks import NEEDS_GGML


class Words(nn.Module):
    """A table, and layers with rows of 256 and of 32."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(10, 256)
        self.up = nn.Linear(256, 32)
        self.down = nn.Linear(32, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.down(torch.tanh(self.up(self.table(words))))


BATCHES = [torch.arange(10).reshape(5, 2)]


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().sum((1, 2))


def halved(weight: Float32Array, importance: Float32Array | None) -> Float32Array:
    del importance
    return weight / 2


def one_byte_a_row(shape: tuple[int, ...]) -> int:
    return shape[0]


def wide_only(shape: tuple[int, ...]) -> str | None:
    return None if shape[1] == 256 else "rows are not 256"


def doubled(values: Float32Array) -> Float32Array:
    return values * 2


HALVED = own_format("halved", bits=0.5, stored_bytes=one_byte_a_row, round_trip=halved)


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    before = dict(FORMATS)
    yield
    FORMATS.clear()
    FORMATS.update(before)


def profiled(formats: list[str], tables: list[str], rows: tuple[str, ...] = ("weight",)) -> Profile:
    return profile_model(Words(), BATCHES, loss, formats, tables, rows=rows)


def test_every_estimator_of_weights_takes_a_registered_format() -> None:
    register_format(HALVED)
    tables = ["weight_error", "output_mse", "loss", "fisher", "hessian_trace", "zd"]
    profile = profiled(["halved", "fp32"], tables)
    assert profile.formats["halved"].weight_bits == 0.5
    norms = [float(layer.weight.detach().square().sum()) for layer in discover(Words())]
    assert [row[0] for row in profile.costs["weight_error"].values] == pytest.approx([n / 4 for n in norms])
    assert [row[0] for row in profile.resources["weight_bytes"].values] == [10, 32, 4]
    assert set(solve(profile, objective="loss", budgets={"weight_bytes": 10_000}).assignment.values()) <= {
        "halved", "fp32",
    }  # fmt: skip
    measure = distance_of_plans(
        Words().eval(), BATCHES, lambda model, batch: model(batch), lambda a, b: (a - b).square()
    )
    assert measure({"up": "halved"}) > 0


def test_shapes_that_it_refuses_are_null_with_its_reason() -> None:
    register_format(
        own_format("wide", bits=1, stored_bytes=one_byte_a_row, round_trip=halved, misfit=wide_only)
    )
    profile = profiled(["wide", "int8"], ["loss", "weight_error"])
    assert [row[0] is None for row in profile.costs["loss"].values] == [False, False, True]
    assert [row[0] for row in profile.resources["weight_bytes"].values] == [10, 32, None]
    assert profile.provenance.notes["/layers/down/wide"] == "rows are not 256"
    with pytest.raises(InvalidInputError, match="no format fits: wide: rows are not 256"):
        profiled(["wide"], ["loss"])


def test_inputs_are_rounded_by_their_own_function() -> None:
    register_format(HALVED)
    register_format(
        own_format(
            "doubling", bits=8, stored_bytes=one_byte_a_row, round_trip=halved, round_activations=doubled
        )
    )
    profile = profiled(["halved", "doubling", "fp32"], ["loss"], rows=("activation",))
    values = dict(zip([row.name for row in profile.layers], profile.costs["loss"].values, strict=True))
    halved_input, doubled_input, _ = values["down.input"]
    model = Words().eval()
    with torch.no_grad():
        hidden = torch.tanh(model.up(model.table(BATCHES[0])))
        change = {
            factor: float(
                (model.down(hidden * factor).square() - model.down(hidden).square()).sum((1, 2)).mean()
            )
            for factor in (0.5, 2.0)
        }
    assert halved_input == pytest.approx(change[0.5], rel=1e-5)
    assert doubled_input == pytest.approx(change[2.0], rel=1e-5)


@pytest.mark.parametrize(
    ("fmt", "message"),
    [
        (replace(HALVED, name="int4"), "'int4' is another format already"),
        (replace(HALVED, name="fp16"), "'fp16' is another format already"),
        (replace(HALVED, name="Q8_0"), "'Q8_0' is another format already"),
        (replace(HALVED, name="a b"), "expected a name of letters, digits"),
        (StorageFormat("mine", 4), "'mine' brings no codec, so nothing could round to it"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_registered(fmt: StorageFormat, message: str) -> None:
    before = dict(FORMATS)
    with pytest.raises(InvalidInputError, match=message):
        register_format(fmt)
    assert before == FORMATS


def test_registering_twice_is_no_harm() -> None:
    assert register_format(HALVED) is register_format(HALVED) is parse_format("halved")
    with pytest.raises(InvalidInputError, match=r"known: int1 .*q4_k.*halved"):
        parse_format("halve")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda weight, _: weight[:1], re.escape("the round trip of odd gave the shape (1, 256)")),
        (lambda weight, _: weight * np.nan, "the round trip of odd gave numbers that are not finite"),
    ],
)
def test_what_it_gives_is_checked(value: object, message: str) -> None:
    register_format(own_format("odd", bits=1, stored_bytes=one_byte_a_row, round_trip=value))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=message):
        profiled(["odd"], ["weight_error"])


def test_packages_bring_formats_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    entries = [
        metadata.EntryPoint(name, f"{__name__}:{value}", GROUP)
        for name, value in (("halved", "HALVED"), ("no", "loss"))
    ]
    monkeypatch.setattr(
        metadata, "entry_points", lambda **wanted: metadata.EntryPoints(entries).select(**wanted)
    )
    assert parse_format("halved") is HALVED
    with pytest.raises(
        InvalidInputError, match="should be the format 'no', made with own_format; it is a function"
    ):
        parse_format("no")
    with pytest.raises(InvalidInputError, match=r"unknown format 'what'; known: .*, no"):
        parse_format("what")


def test_two_names_of_one_format_are_one_column() -> None:
    with pytest.raises(
        InvalidInputError,
        match=r"expected distinct formats, got \['q8_0', 'int8-g32'\]; int8-g32 comes twice",
    ):
        profiled(["q8_0", "int8-g32"], ["weight_error"])
    assert list(profiled(["Q8_0", "F16"], ["weight_error"]).formats) == ["int8-g32", "fp16"]


@NEEDS_GGML
def test_types_of_ggml_are_measured_and_their_fallbacks_are_said() -> None:
    profile = profiled(["q4_k", "iq3_xxs", "fp16"], ["output_mse", "weight_error"])
    values = dict(
        zip([row.name for row in profile.layers], profile.costs["weight_error"].values, strict=True)
    )
    bytes_of = dict(zip(values, profile.resources["weight_bytes"].values, strict=True))
    assert bytes_of["up"] == (32 * 144, 32 * 98, 32 * 512)
    assert bytes_of["down"] == (4 * 22, 4 * 18, 4 * 64)
    assert bytes_of["table"] == (10 * 144, None, 10 * 512)
    notes = profile.provenance.notes
    assert "iq3_xxs needs to know how much each input counts" in notes["/layers/table/iq3_xxs"]
    assert notes["/formats/q4_k"] == "of the weights, 1 with rows of 32 become q5_0, bytes and codes alike"
    model = Words().eval()
    layers = {layer.name: layer for layer in discover(model)}
    moments = input_moments(model, BATCHES, loss, tuple(layers.values()))
    plain = layers["up"].weight.detach().numpy()
    made = restored(plain, parse_format("iq3_xxs"), moment=moments["up"])
    assert values["up"][1] == pytest.approx(float(np.square(made - plain).sum()), rel=1e-5)
    planned = Planned(model, gather=lambda: moments)
    with planned.applied({"up": "iq3_xxs"}):
        assert np.array_equal(model.up.weight.detach().numpy(), made)
    assert (
        distance_of_plans(model, BATCHES, lambda model, batch: model(batch), lambda a, b: (a - b).square())(
            {"up": "iq3_xxs", "table": "q4_k"}
        )
        > 0
    )
    with (
        pytest.raises(InvalidInputError, match="/layers/up: iq3_xxs needs to know"),
        Planned(Words()).applied({"up": "iq3_xxs"}),
    ):
        pass


@NEEDS_GGML
def test_inputs_have_no_importance() -> None:
    profile = profiled(["iq3_xxs", "q4_k", "fp16"], ["loss"], rows=("activation",))
    assert [row[0] for row in profile.costs["loss"].values] == [None] * len(profile.layers)
    assert None not in [row[1] for row in profile.costs["loss"].values]
