"""The loop: never worse than where it began, at the optimum where that is known, and the same after a kill."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import InvalidInputError, certify, make_request
from quantize.feedback import Measurement, candidates, refine
from tests.quantize.feedback.problems import FORMATS, coupled

ROOT = Path(__file__).parents[3]
BUDGET = {"effective_bits": 4.0}


def optimum(layers: int, seed: int, bits: float) -> float:
    """The least loss within a budget, from all plans."""
    profile, loss = coupled(layers, seed)
    names = [layer.name for layer in profile.layers]
    sizes = np.array([layer.parameters for layer in profile.layers])
    spent = np.array(profile.resources["weight_bytes"].values)
    found = np.inf
    for columns in itertools.product(range(4), repeat=layers):
        if 8 * spent[np.arange(layers), columns].sum() / sizes.sum() <= bits:
            plan = {name: list(FORMATS)[column] for name, column in zip(names, columns, strict=True)}
            found = min(found, loss(plan))
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.thorough
def test_it_comes_to_the_true_optimum_where_the_table_is_wrong(seed: int) -> None:
    profile, loss = coupled(5, seed)
    best = optimum(5, seed, 4.0)
    found = refine(profile, loss, max_evaluations=40, patience=40, budgets=BUDGET)
    assert found.best.loss <= 1.1 * best


@pytest.mark.thorough
def test_the_solver_finds_as_good_plans_as_a_list_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    profile, loss = coupled(5, 1)
    best = optimum(5, 1, 4.0)
    monkeypatch.setattr(candidates, "LISTED", 10)
    solved = refine(profile, loss, max_evaluations=20, patience=20, budgets=BUDGET)
    start = solved.loss_of("start")
    assert start is not None
    assert solved.best.loss <= 1.15 * best
    assert solved.best.loss <= start


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(2.3, 7.0), st.integers(1, 12))
@pytest.mark.thorough
def test_it_is_never_worse_than_the_plans_it_starts_from(seed: int, bits: float, most: int) -> None:
    profile, loss = coupled(4, seed)
    request = {"budgets": {"effective_bits": bits}}
    found = refine(profile, loss, max_evaluations=most, seed=seed, **request)
    assert len(found.trials) <= most
    assert found.best.loss == min(trial.loss for trial in found.trials)
    assert loss(found.best.assignment) == found.best.loss
    assert found.allocation.assignment == found.best.assignment
    assert not certify(profile, make_request(request), found.best.assignment).violations
    assert len({tuple(trial.assignment.values()) for trial in found.trials}) == len(found.trials)
    if most >= 3:
        origins = {origin for trial in found.trials for origin in trial.origins}
        assert {"start", "uniform", "greedy"} <= origins


def test_it_is_deterministic_and_measures_each_plan_once() -> None:
    profile, loss = coupled()
    asked: list[tuple[str, ...]] = []

    def measure(plan: Mapping[str, str]) -> float:
        asked.append(tuple(plan.values()))
        return loss(plan)

    first, second = (refine(profile, measure, max_evaluations=12, budgets=BUDGET) for _ in range(2))
    assert asked[: len(asked) // 2] == asked[len(asked) // 2 :]
    assert len(set(asked)) == len(asked) // 2
    assert first.allocation.assignment == second.allocation.assignment


def test_the_allocation_says_that_nothing_is_proved() -> None:
    profile, loss = coupled()
    allocation = refine(profile, loss, max_evaluations=9, budgets=BUDGET).allocation
    assert allocation.status == "feasible"
    assert re.match(
        r"The best of \d+ measured plans, loss .*; objective and bound are those", allocation.advice
    )
    assert allocation.solver.name == "refine"
    assert allocation.bound is not None
    assert allocation.objective is not None
    assert allocation.bound <= allocation.objective
    assert allocation.usage["effective_bits"].used <= 4.0


def test_it_stops_when_nothing_gets_better() -> None:
    profile, loss = coupled()
    told: list[tuple[str, int, int]] = []
    found = refine(
        profile,
        loss,
        max_evaluations=60,
        patience=4,
        budgets=BUDGET,
        progress=lambda *step: told.append(step),
    )
    assert found.stopped == "no better plan in 4 evaluations"
    assert found.trials.index(found.best) == len(found.trials) - 5
    assert told == [("plans", done, 60) for done in range(1, len(found.trials) + 1)]


def test_it_stops_when_all_plans_are_measured() -> None:
    profile, loss = coupled(2)
    found = refine(profile, loss, max_evaluations=60, patience=60, budgets={"effective_bits": 8})
    assert found.stopped == "every plan that comes into question was measured"
    assert len(found.trials) == 16


def test_pins_and_units_hold() -> None:
    profile, loss = coupled()
    layers = [
        layer.model_copy(update={"unit": "u"}) if layer.name < "l2" else layer for layer in profile.layers
    ]
    tied = profile.model_copy(update={"layers": tuple(layers)})
    found = refine(tied, loss, max_evaluations=15, budgets=BUDGET, pin={"l3": "int3"})
    assert all(trial.assignment["l0"] == trial.assignment["l1"] for trial in found.trials)
    assert all(trial.assignment["l3"] == "int3" for trial in found.trials)


def test_bytes_that_were_measured_count() -> None:
    profile, loss = coupled()
    spent = np.array(profile.resources["weight_bytes"].values)

    def measure(plan: Mapping[str, str]) -> Measurement:
        columns = [list(FORMATS).index(name) for name in plan.values()]
        return Measurement(loss(plan), weight_bytes=40.0 + 1.1 * spent[np.arange(5), columns].sum())

    limit = 40 + 1.1 * float(np.median(spent, axis=1).sum())
    found = refine(profile, measure, max_evaluations=20, budgets={"weight_bytes": limit})
    assert found.best.measurement.weight_bytes is not None
    assert 0.85 * limit < found.best.measurement.weight_bytes <= limit
    assert all(trial.fits == (trial.measurement.weight_bytes <= limit) for trial in found.trials)  # type: ignore[operator]
    assert sum(trial.fits for trial in found.trials) > len(found.trials) / 2


# Kills


def run(journal: Path, pause_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.quantize.feedback.resumed", str(journal), str(pause_s)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.thorough
def test_killed_and_started_again_it_ends_the_same(tmp_path: Path) -> None:
    killed = run(tmp_path / "killed", 0.05)
    assert killed.stdout is not None
    for _ in range(5):
        killed.stdout.readline()
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    again, _ = run(tmp_path / "killed", 0).communicate()
    whole, _ = run(tmp_path / "whole", 0).communicate()
    assert again.splitlines()[-1] == whole.splitlines()[-1]
    assert again.count("measured") < whole.count("measured")


def test_a_journal_goes_on_with_more_evaluations(tmp_path: Path) -> None:
    profile, loss = coupled()
    fields = {"budgets": BUDGET, "patience": 40}
    short = refine(profile, loss, max_evaluations=6, journal=tmp_path / "journal", **fields)

    def measure(plan: Mapping[str, str]) -> float:
        assert plan not in [trial.assignment for trial in short.trials]
        return loss(plan)

    longer = refine(profile, measure, max_evaluations=10, journal=tmp_path / "journal", **fields)
    assert [trial.loss for trial in longer.trials[:6]] == [trial.loss for trial in short.trials]


def test_a_journal_of_another_search_is_refused_and_kept(tmp_path: Path) -> None:
    profile, loss = coupled()
    refine(profile, loss, max_evaluations=4, journal=tmp_path / "journal", budgets=BUDGET)
    before = (tmp_path / "journal").read_bytes()
    with pytest.raises(InvalidInputError, match=r"belongs to another run .*seed is 0, not 1"):
        refine(profile, loss, max_evaluations=4, seed=1, journal=tmp_path / "journal", budgets=BUDGET)
    assert (tmp_path / "journal").read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_with_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    profile, loss = coupled()
    full = os.open("/dev/full", os.O_WRONLY)
    write = os.write
    calls = iter(range(100))
    # The header and two measurements are written, then the disk is full.
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd if next(calls) < 3 else full, data))
    with pytest.raises(InvalidInputError, match="/journal: cannot be written: No space left"):
        refine(profile, loss, max_evaluations=9, journal=tmp_path / "journal", budgets=BUDGET)
    monkeypatch.undo()
    os.close(full)
    found = refine(profile, loss, max_evaluations=9, journal=tmp_path / "journal", budgets=BUDGET)
    assert len(found.trials) == 9


# Bad input


def test_budgets_that_no_plan_keeps() -> None:
    profile, loss = coupled()
    with pytest.raises(
        InvalidInputError, match=r"/budgets: no plan keeps every budget; effective_bits: asked for .* 1,"
    ):
        refine(profile, loss, budgets={"effective_bits": 1})


def test_a_latency_that_no_plan_measures() -> None:
    profile, loss = coupled()
    with pytest.raises(
        InvalidInputError, match=r"none of 1 measured plans keeps .* the least that a plan measured is 9000"
    ):
        refine(
            profile,
            lambda plan: Measurement(loss(plan), latency_us=9e3),
            budgets={"latency_us": 1.0},
            max_evaluations=5,
        )


@pytest.mark.parametrize("name", ["max_evaluations", "patience"])
def test_counts_below_one(name: str) -> None:
    profile, loss = coupled()
    with pytest.raises(InvalidInputError, match=f"/{name}: expected at least 1, got 0"):
        refine(profile, loss, budgets=BUDGET, **{name: 0})


@pytest.mark.parametrize(
    ("given", "detail"), [(0.0, "above zero, got 0.0"), (float("nan"), "finite numbers")]
)
def test_losses_that_cannot_be_compared(given: float, detail: str) -> None:
    profile, _ = coupled()
    with pytest.raises(InvalidInputError, match=f"/measure: expected .*{detail}"):
        refine(profile, lambda _: given, budgets=BUDGET)


def test_objectives_that_are_no_loss() -> None:
    profile, loss = coupled()
    with pytest.raises(InvalidInputError, match="/objective: expected one loss"):
        refine(profile, loss, objective=("kl", "weight_bytes"), budgets=BUDGET)
    nothing = profile.costs["kl"].model_copy(update={"values": ((0.0,) * 4,) * 5})
    with pytest.raises(InvalidInputError, match="/objective: kl has no cost above zero"):
        refine(profile.model_copy(update={"costs": {"kl": nothing}}), loss, budgets=BUDGET)
