"""The certificate is what everyone relies on, so it is fed corrupted plans to see it refuse them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from allocator import Request, certify, load_profile, make_request, solve, total
from tests.allocator.oracle import Document
from tests.allocator.profiles import profile_json, with_units
from tests.allocator.solvers.exact.test_fuzz import draw

BUDGETS = {"weight_bytes": 160, "latency_us": "40 us"}


def check(
    assignment: dict[str, str], profile: dict[str, Any] | None = None, **fields: Any
) -> tuple[str, ...]:
    return certify(load_profile(profile or profile_json()), Request(**fields), assignment).violations


def valid() -> dict[str, str]:
    assignment = solve(profile_json(), budgets=BUDGETS).assignment
    assert assignment is not None
    return dict(assignment)


def test_a_valid_plan_has_no_violations_and_the_sums_of_the_tables() -> None:
    certificate = certify(load_profile(profile_json()), Request(budgets=BUDGETS), valid())
    assert certificate.violations == ()
    assert certificate.objective == pytest.approx(0.3 + 0.2 + 0.5)
    assert certificate.used == {"weight_bytes": 160, "latency_us": 31}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head": "int8"}, "weight_bytes: 240 byte is above the most allowed, 160 byte"),
        ({"head": "int5"}, "head: 'int5' is not a format of the profile"),
        ({"tail": "int4"}, "tail: not a layer of the profile"),
    ],
)
def test_sees_a_corrupted_plan(change: dict[str, str], words: str) -> None:
    assert words in check(valid() | change, budgets=BUDGETS)


def test_sees_a_missing_layer() -> None:
    plan = valid()
    del plan["head"]
    assert check(plan, budgets=BUDGETS) == ("head: no format assigned",)
    assert math.isnan(certify(load_profile(profile_json()), Request(), plan).objective)


def test_sees_one_byte_too_many() -> None:
    assert check(valid(), budgets={"weight_bytes": 160}) == ()
    assert check(valid(), budgets={"weight_bytes": 159}) == (
        "weight_bytes: 160 byte is above the most allowed, 159 byte",
    )


def test_sees_a_split_unit() -> None:
    profile = profile_json(layers=with_units("u", None, "u"))
    assert check({"block.0.up": "int2", "block.0.down": "int2", "head": "int4"}, profile) == (
        "head: differs from 'block.0.up', which is of the same unit 'u'",
    )


def test_sees_broken_pins_allow_and_forbid_lists() -> None:
    plan = dict.fromkeys(("block.0.up", "block.0.down", "head"), "int4")
    assert check(plan, pin={"head": "int8"}) == ("head: 'int4' breaks the rule for 'head'",)
    assert check(plan, allow={"*.up": ["int2"]}) == ("block.0.up: 'int4' breaks the rule for '*.up'",)
    assert check(plan, forbid={"*.down": ["int4"]}) == ("block.0.down: 'int4' breaks the rule for '*.down'",)


def test_sees_a_format_without_a_value() -> None:
    costs = {"kl": {"values": [[0.9, None, 0.0], [0.8, 0.2, 0.0], [2.0, 0.5, 0.1]]}}
    plan = dict.fromkeys(("block.0.up", "block.0.down", "head"), "int4")
    assert check(plan, profile_json(costs=costs)) == ("block.0.up: table 'kl' has no value for its format",)


def test_sees_a_demand_that_is_not_reached() -> None:
    costs = {"sqnr": {"values": [[10, 20, 30]] * 3, "better": "higher"}}
    plan = dict.fromkeys(("block.0.up", "block.0.down", "head"), "int4")
    assert check(plan, profile_json(costs=costs), budgets={"sqnr": 61}) == (
        "sqnr: 60 is below the least allowed, 61",
    )


def test_integers_beyond_doubles_are_added_exactly() -> None:
    huge = {"weight_bytes": {"values": [[2**53, 1, 1]] * 3, "unit": "byte", "constant": 1}}
    profile = load_profile(profile_json(resources=huge))
    assert (
        total(profile, "weight_bytes", dict.fromkeys(("block.0.up", "block.0.down", "head"), "int2"))
        == 3 * 2**53
    )


def test_decimals_are_rounded_once() -> None:
    mixed = {"kl": {"values": [[1e16, 1, 1], [0.5, 1, 1], [-1e16, 1, 1]]}}
    profile = load_profile(profile_json(costs=mixed))
    plan = dict.fromkeys(("block.0.up", "block.0.down", "head"), "int2")
    assert 1e16 + 0.5 - 1e16 == 0
    assert total(profile, "kl", plan) == 0.5


Plan = tuple[dict[str, str], tuple[str, ...]]
Faults = set[tuple[str, str]]

_KINDS = {
    "no format assigned": "layer",
    "not a layer": "layer",
    "not a fusion": "fusion",
    "is not a format": "format",
    "differs from": "unit",
    "must share one format": "mixed",
    "in two fusions": "overlap",
    "breaks the rule": "rule",
    "has no value": "missing",
    "does not exist": "missing",
    "above the most": "limit",
    "below the least": "limit",
}


def seen(violations: tuple[str, ...]) -> Faults:
    found = set()
    for text in violations:
        (kind,) = {kind for words, kind in _KINDS.items() if words in text}
        found.add((kind, text.split(": ")[0]))
    return found


def by_definition(profile: Document, request: Document, plan: Plan) -> tuple[float | None, Faults]:
    """Objective and faults from the documents alone; no objective where the plan does not say what to add up."""
    assignment, fusions = plan
    names, formats = [layer["name"] for layer in profile["layers"]], list(profile["formats"])
    shape = {("layer", name) for name in set(names) ^ assignment.keys()}
    shape |= {("format", name) for name, chosen in assignment.items() if chosen not in formats}
    shape |= {("fusion", name) for name in set(fusions) - {item["name"] for item in profile["fusions"]}}
    if shape:
        return None, shape
    used = [fusion for fusion in profile["fusions"] if fusion["name"] in fusions]
    chosen_of = {item["name"]: {assignment[name] for name in item["layers"]} for item in used}
    found = {("mixed", name) for name, chosen in chosen_of.items() if len(chosen) > 1}
    held = Counter(name for fusion in used for name in fusion["layers"])
    found |= {("overlap", name) for name, times in held.items() if times > 1}
    clear = not found
    first: dict[str, str] = {}
    for layer in profile["layers"]:
        if (
            "unit" in layer
            and assignment[first.setdefault(layer["unit"], layer["name"])] != assignment[layer["name"]]
        ):
            found.add(("unit", layer["name"]))
    found |= {("rule", name) for name, chosen in request["pin"].items() if assignment[name] != chosen}
    found |= {("rule", name) for name, out in request["forbid"].items() if assignment[name] in out}
    if not clear:  # fused layers of two formats, or in two kernels, have no spend
        return None, found
    sums, missing = _sums(profile, request, assignment, used)
    found |= missing
    for name, (amount, low, high) in sums.items():
        found |= {("limit", name)} if not low <= amount <= high else set()
    parts = [
        weight * value
        for table, weight in request["objective"].items()
        for value, _ in _entries(profile, table, assignment, used).values()
        if value is not None
    ]
    return math.fsum(parts), found


def _sums(
    profile: Document, request: Document, assignment: dict[str, str], used: list[Document]
) -> tuple[dict[str, tuple[float, float, float]], Faults]:
    tables = [*request["objective"], *request["budgets"], *(row.get("table") for row in request["limits"])]
    missing = {
        ("missing", name)
        for table in tables
        if table is not None
        for value, name in _entries(profile, table, assignment, used).values()
        if value is None
    }
    sums = {}
    for name, amount in request["budgets"].items():
        values = [value or 0 for value, _ in _entries(profile, name, assignment, used).values()]
        sums[name] = (sum(values), -math.inf, amount)
    for row in request["limits"]:
        scope = [name for name in assignment if "layers" not in row or name.startswith("block.0.")]
        scope = [name for name in scope if "formats" not in row or assignment[name] in row["formats"]]
        entries = _entries(profile, row["table"], assignment, []) if "table" in row else {}
        amount = sum(entries[name][0] if entries else 1 for name in scope)
        sums[row["name"]] = (amount, row.get("min", -math.inf), row.get("max", math.inf))
    return sums, missing


def _entries(
    profile: Document, table: str, assignment: dict[str, str], used: list[Document]
) -> dict[str, tuple[float | None, str]]:
    """Layer (or the first layer of a kernel) → its entry, and whose it is."""
    columns = {name: at for at, name in enumerate(profile["formats"])}
    values = {**profile["costs"], **profile["resources"]}[table]["values"]
    names = [layer["name"] for layer in profile["layers"]]
    entries = {name: (row[columns[assignment[name]]], name) for name, row in zip(names, values, strict=True)}
    for fusion in used:
        if table in fusion["resources"]:
            first, *others = fusion["layers"]
            entries[first] = (fusion["resources"][table][columns[assignment[first]]], fusion["name"])
            for name in others:
                del entries[name]
    return entries


def corrupt(rng: np.random.Generator, profile: Document, plan: Plan) -> Plan:
    assignment, fusions = dict(plan[0]), list(plan[1])
    layer = str(rng.choice([item["name"] for item in profile["layers"]]))
    known = [fusion["name"] for fusion in profile["fusions"]]
    match rng.integers(10):
        case 0:
            assignment.pop(layer, None)
        case 1:
            assignment["no.such.layer"] = "f0"
        case 2:
            assignment[layer] = "f99"
        case 3:
            fusions.append("no such fusion")
        case 4 | 5 if known:
            fusions.append(str(rng.choice(known)))
        case 6 if fusions:
            fusions.pop()
        case _:
            assignment[layer] = str(rng.choice(list(profile["formats"])))
    return assignment, tuple(dict.fromkeys(fusions))


def _with_rules(rng: np.random.Generator, profile: Document, request: Document, plan: Plan) -> Document:
    # Rules that the plan keeps, so that a corruption can break them.
    pinned = {name: chosen for name, chosen in plan[0].items() if rng.random() < 0.15}
    forbidden = {
        name: [out for out in profile["formats"] if out != chosen and rng.random() < 0.5]
        for name, chosen in plan[0].items()
        if rng.random() < 0.15
    }
    return request | {"pin": pinned, "forbid": {name: out for name, out in forbidden.items() if out}}


@pytest.mark.thorough
def test_sees_what_is_wrong_with_corrupted_answers_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    kinds: Counter[str] = Counter()
    for trial in range(250):
        document, request = draw(rng)
        answer = solve(document, **request)
        if answer.assignment is None:
            continue
        plan: Plan = (dict(answer.assignment), answer.fusions)
        request = _with_rules(rng, document, request, plan)
        profile, asked = load_profile(document), make_request(request)
        assert certify(profile, asked, *plan).violations == (), trial
        valid_plan = plan
        for _ in range(8):
            # One fault in a valid answer, or one more in an answer that is wrong already.
            plan = corrupt(rng, document, valid_plan if rng.random() < 0.6 else plan)
            objective, expected = by_definition(document, request, plan)
            certificate = certify(profile, asked, *plan)
            found = seen(certificate.violations)
            if {kind for kind, _ in expected} & {"mixed", "overlap"}:
                found = {(kind, name) for kind, name in found if kind not in {"limit", "missing"}}
            assert found == expected, (trial, plan)
            if objective is not None:
                assert certificate.objective == pytest.approx(objective, rel=1e-12, abs=1e-18), trial
            kinds.update(kind for kind, _ in expected)
            kinds["nothing"] += not expected
    assert set(kinds) == {*_KINDS.values(), "nothing"}, kinds
    assert min(kinds.values()) >= 10, kinds
