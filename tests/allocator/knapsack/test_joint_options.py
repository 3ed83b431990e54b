"""Layers that may run as one kernel."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from allocator import InvalidInputError, Status, certify, load_profile, make_request, solve
from allocator.knapsack.joint_options import MOST_JOINT_OPTIONS, Part, connected_sets, joint_options
from tests.allocator.oracle import best_plan

NAMES = ("q", "k", "v")


def attention(*fusions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Three projections whose kernels take 10 us each on their own, whatever the format."""
    return {
        "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        "layers": [{"name": name, "parameters": 16} for name in NAMES],
        "costs": {"kl": {"values": [[0.4, 0.0], [0.1, 0.0], [0.2, 0.0]]}},
        "resources": {
            "weight_bytes": {"values": [[8, 16]] * 3, "unit": "byte"},
            "latency_us": {"values": [[10, 11]] * 3, "unit": "us", "constant": 5},
        },
        "fusions": list(fusions),
    } | changes


QKV = {"name": "qkv", "layers": ["q", "k", "v"], "resources": {"latency_us": [12, 15]}}
QK = {"name": "qk", "layers": ["q", "k"], "resources": {"latency_us": [11, 12]}}


def test_a_fusion_is_used_where_it_saves() -> None:
    allocation = solve(attention(QKV), objective="kl", budgets={"latency_us": 20})
    assert (allocation.status, allocation.fusions) == (Status.OPTIMAL, ("qkv",))
    assert allocation.assignment == dict.fromkeys(NAMES, "int8")
    assert allocation.usage["latency_us"].used == 5 + 15


def test_layers_stay_apart_where_their_formats_must_differ() -> None:
    allocation = solve(attention(QKV), objective="kl", budgets={"latency_us": 100}, pin={"q": "int4"})
    assert allocation.fusions == ()
    assert allocation.assignment == {"q": "int4", "k": "int8", "v": "int8"}


def test_overlapping_fusions_are_alternatives() -> None:
    fields: dict[str, Any] = {"objective": {"kl": 1.0}, "budgets": {"latency_us": 23, "weight_bytes": 40}}
    document = attention(QKV, QK)
    allocation = solve(document, **fields)
    unfused = {"latency_us": {**document["resources"]["latency_us"], "constant": 0}}
    shifted = document | {"resources": document["resources"] | unfused}
    expected = best_plan(shifted, fields | {"budgets": {"latency_us": 18, "weight_bytes": 40}})
    assert expected is not None
    assert allocation.objective == pytest.approx(expected.objective)


def test_a_kernel_that_lacks_a_format_is_not_used_in_it() -> None:
    only_four = QKV | {"resources": {"latency_us": [12, None]}}
    allocation = solve(attention(only_four), objective="kl", budgets={"latency_us": 20})
    assert (allocation.fusions, set((allocation.assignment or {}).values())) == (("qkv",), {"int4"})


def test_fusions_that_change_nothing_in_play_are_left_out() -> None:
    assert solve(attention(QKV), objective="kl", budgets={"weight_bytes": 40}).fusions == ()


def test_the_uniform_baseline_fuses_too() -> None:
    allocation = solve(attention(QKV), objective="kl", budgets={"latency_us": 20}, solver="uniform")
    assert set((allocation.assignment or {}).values()) == {"int8"}


def test_the_certificate_recomputes_fused_spends_and_refuses_impossible_fusions() -> None:
    profile, request = load_profile(attention(QKV, QK)), make_request({"budgets": {"latency_us": 20}})
    same, mixed = dict.fromkeys(NAMES, "int8"), {"q": "int8", "k": "int4", "v": "int8"}
    assert certify(profile, request, same, ("qkv",)).used == {"latency_us": 20}
    assert certify(profile, request, same).violations == (
        "latency_us: 38 us is above the most allowed, 20 us",
    )
    assert "qkv: fused layers must share one format" in certify(profile, request, mixed, ("qkv",)).violations
    assert (
        "q: in two fusions of the plan, 'qkv' and 'qk'"
        in certify(profile, request, same, ("qkv", "qk")).violations
    )
    assert certify(profile, request, same, ("kv",)).violations == ("kv: not a fusion of the profile",)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "itself twice": (QKV | {"layers": ["q", "q"]}, "/fusions/0/layers: a fusion cannot hold a layer twice"),
    "one layer": (QKV | {"layers": ["q"]}, "/fusions/0/layers: .*at least 2 items"),
    "unknown layer": (
        QKV | {"layers": ["q", "kk"]},
        "/fusions/0/layers/1: unknown layer 'kk'; did you mean 'k'",
    ),
    "unknown resource": (
        QKV | {"resources": {"latency": [1, 2]}},
        "/fusions/0/resources: unknown resource 'latency'; did you mean 'latency_us'",
    ),
    "another length": (
        QKV | {"resources": {"latency_us": [1]}},
        "/fusions/0/resources/latency_us: expected 2 values, one per format, got 1",
    ),
    "a negative spend": (
        QKV | {"resources": {"latency_us": [1, -1]}},
        "/fusions/0/resources/latency_us/1: .*greater than or equal to 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_fusions(name: str) -> None:
    fusion, words = REFUSED[name]
    with pytest.raises(InvalidInputError, match=words):
        load_profile(attention(fusion))


def test_refuses_two_fusions_of_one_name() -> None:
    with pytest.raises(
        InvalidInputError, match="/fusions/1/name: fusion names must be unique, repeated: 'qkv'"
    ):
        load_profile(attention(QKV, QKV))


def test_refuses_a_fused_maximum() -> None:
    peak = {"latency_us": {"values": [[1, 2]] * 3, "combine": "max"}}
    with pytest.raises(InvalidInputError, match="'latency_us' combines by max, which a fusion cannot change"):
        load_profile(attention(QKV, resources=peak))


def test_refuses_a_fusion_of_half_a_unit() -> None:
    layers = [{"name": "q"}, {"name": "k", "unit": "kv"}, {"name": "v", "unit": "kv"}]
    with pytest.raises(InvalidInputError, match="/fusions/0/layers: 'qk' holds only part of a unit"):
        solve(attention(QK, layers=layers), objective="kl", budgets={"latency_us": 20})


def test_refuses_a_limit_over_half_a_fusion() -> None:
    half = {"name": "first", "table": "latency_us", "layers": ["q"], "max": 20}
    with pytest.raises(InvalidInputError, match="covers only part of the layers of fusion 'qkv'"):
        solve(attention(QKV), objective="kl", limits=[half])


def test_too_many_joint_options_are_an_error_with_advice() -> None:
    # Sums of digits times powers are all different, and what one table gains the other loses: nothing is beaten.
    names = [f"expert.{at}" for at in range(8)]
    digits = [[5**place * digit for digit in range(5)] for place in range(8)]
    chain = [
        {"name": f"{one}+{two}", "layers": [one, two], "resources": {"latency_us": [0] * 5}}
        for one, two in pairwise(names)
    ]
    document = {
        "formats": {f"int{bits}": {"weight_bits": bits} for bits in range(2, 7)},
        "layers": [{"name": name} for name in names],
        "costs": {"kl": {"values": [row[::-1] for row in digits]}},
        "resources": {"weight_bytes": {"values": digits}, "latency_us": {"values": [[1] * 5] * 8}},
        "fusions": chain,
    }
    with pytest.raises(
        InvalidInputError, match=f"over {MOST_JOINT_OPTIONS:,} joint options; leave out fusions"
    ):
        solve(document, objective="kl", budgets={"latency_us": 10, "weight_bytes": 10})


@pytest.mark.parametrize("fused", ["one kernel", "a chain of pairs"])
def test_many_connected_layers_are_planned_without_listing_every_subset(fused: str) -> None:
    names = [f"expert.{at}" for at in range(40)]  # 2 to the power of 40 subsets
    groups = [names] if fused == "one kernel" else [list(pair) for pair in pairwise(names)]
    document = {
        "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        "layers": [{"name": name} for name in names],
        "costs": {"kl": {"values": [[3, 1]] * 40}},
        "resources": {"latency_us": {"values": [[2, 3]] * 40}},
        "fusions": [
            {"name": f"f{at}", "layers": layers, "resources": {"latency_us": [len(layers), 2 * len(layers)]}}
            for at, layers in enumerate(groups)
        ],
    }
    tight = solve(document, objective="kl", budgets={"latency_us": 40})
    assert (tight.status, tight.objective, len(tight.fusions)) == (
        (Status.OPTIMAL, 120, 1) if fused == "one kernel" else (Status.OPTIMAL, 120, 20)
    )
    roomy = solve(document, objective="kl", budgets={"latency_us": 80})
    assert (roomy.status, roomy.objective) == (Status.OPTIMAL, 40)


def test_sets_that_are_large_only_in_parts_are_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allocator.knapsack.joint_options._MOST_PARTIAL_OPTIONS", 10)
    with pytest.raises(InvalidInputError, match="joint options; leave out fusions"):
        solve(attention(QKV, QK), objective="kl", budgets={"latency_us": 20})


def test_sets_are_connected_through_any_number_of_fusions() -> None:
    assert connected_sets(6, [(0, 3), (4, 5), (3, 5)]) == [[0, 3, 4, 5], [1], [2]]


def test_joint_options_keep_what_nothing_beats_and_the_best_of_every_format() -> None:
    yes = np.ones(2, dtype=bool)
    one = Part((0,), None, np.array([[0.0, 1.0], [1.0, 2.0]]), yes)  # the second format is worse in both
    two = Part((1,), None, np.array([[0.0, 1.0], [1.0, 2.0]]), yes)
    options = joint_options([0, 1], [one, two], [])
    assert options.formats.tolist() == [[0, 0], [1, 1]]
    assert options.values.tolist() == [[0, 2], [2, 4]]
