"""What tables say about themselves: which rows they compare, what is too much, and entries below zero."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from allocator import CostTable, Profile, solve
from sensitivity import hessian_trace, kl, profile_model
from sensitivity.tables.compose import scaled
from sensitivity.tables.negative import negative_notes


def _profile(tables: object) -> Profile:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return -model(batch).square().sum(1)  # a maximum: curvature below zero

    return profile_model(model, [torch.randn(6, 8)], loss, ["int2", "int8"], tables)  # type: ignore[arg-type]


def _logits(model: nn.Module, batch: Tensor) -> Tensor:
    said: Tensor = model(batch)
    return said


def test_tables_of_errors_compare_one_kind_of_layer_and_an_importance_lifts_that() -> None:
    profile = _profile(["output_mse", "weight_error", "fisher"])
    said = {name: table.comparable for name, table in profile.costs.items()}
    assert said == {"output_mse": "one_kind", "weight_error": "one_kind", "fisher": None}
    for name, warns in (("output_mse", True), ("fisher", False)):
        notes = solve(profile, objective=name, budgets={"effective_bits": 5}).notes
        assert any(note.about == "comparison" for note in notes) is warns
    assert scaled([1.0, 2.0], profile.costs["output_mse"]).comparable is None


def test_a_measured_divergence_says_what_is_too_much() -> None:
    profile = _profile({"kl": partial(kl, logits=_logits)})
    assert profile.costs["kl"].tolerable == 1.0


def test_traces_below_zero_are_noted_in_the_profile_and_warned_of_in_the_answer() -> None:
    gauss_newton = partial(hessian_trace, curvature="gauss_newton", outputs=_logits, metric="squared_error")
    profile = _profile({"hessian_trace": hessian_trace, "gauss_newton_trace": gauss_newton})
    note = profile.provenance.notes["/costs/hessian_trace"]
    assert note.startswith("warning: 1 of 2 rows have entries below zero (2)")
    assert "/costs/gauss_newton_trace" not in profile.provenance.notes
    for name, warns in (("hessian_trace", True), ("gauss_newton_trace", False)):
        plan = solve(profile, objective=name, budgets={"effective_bits": 9})
        assert any(note.about == "negative entries" for note in plan.notes) is warns


def test_tables_to_maximise_and_long_lists() -> None:
    rows = tuple((-1.0, 0.0) for _ in range(7))
    names = [str(number) for number in range(7)]
    assert negative_notes({"sqnr": CostTable(values=rows, better="higher")}, names) == {}
    (text,) = negative_notes({"t": CostTable(values=rows)}, names).values()
    assert "(0, 1, 2, 3, 4 and 2 more)" in text
