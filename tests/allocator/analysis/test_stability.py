"""How sure a plan is under the noise of its table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from allocator import InvalidInputError, Stability, solve, stability
from tests.allocator.profiles import profile_json, with_units


def noisy(stderr: list[list[float]], **changes: Any) -> dict[str, Any]:
    values = [[0.9, 0.3, 0.0], [0.8, 0.2, 0.0], [2.0, 0.5, 0.1]]
    return profile_json(costs={"kl": {"values": values, "stderr": stderr}}, **changes)


NOISE = [[0.1, 0.05, 0.0], [0.3, 0.05, 0.0], [0.2, 0.1, 0.0]]


@pytest.mark.thorough
def test_the_resamples_are_the_seeded_normal_draws() -> None:
    document, budgets = noisy(NOISE), {"weight_bytes": 140}
    found = stability(document, resamples=60, seed=3, budgets=budgets)
    rng = np.random.default_rng(3)
    values, plans = np.array(document["costs"]["kl"]["values"]), []
    for _ in range(60):
        drawn = values + np.array(NOISE) * rng.standard_normal((3, 3))
        plans.append(solve(profile_json(costs={"kl": {"values": drawn.tolist()}}), budgets=budgets))
    planned = {layer.layer: layer.format for layer in found.layers}
    assert planned == solve(document, budgets=budgets).assignment
    for layer in found.layers:
        same = [(plan.assignment or {})[layer.layer] == planned[layer.layer] for plan in plans]
        assert layer.kept == pytest.approx(np.mean(same))
        assert sum(layer.shares.values()) == pytest.approx(1)
    assert found.kept == pytest.approx(np.mean([plan.assignment == planned for plan in plans]))


@pytest.mark.thorough
def test_the_same_seed_gives_the_same_answer() -> None:
    def run(seed: int) -> Stability:
        return stability(noisy(NOISE), resamples=40, seed=seed, budgets={"weight_bytes": 140})

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.thorough
def test_only_noise_that_can_change_the_plan_is_worth_measuring() -> None:
    quiet = [[0.0] * 3, [0.4, 0.0, 0.0], [0.0] * 3]
    found = stability(noisy(quiet), resamples=200, budgets={"weight_bytes": 140})
    assert found.measure_next == ("block.0.down",)
    assert found.regret > 0
    assert found.objective_stderr == (quiet[1][0] if found.layers[1].format == "int2" else 0.0)


@pytest.mark.thorough
def test_the_worth_of_a_lonely_layer_is_what_a_perfect_measurement_gains() -> None:
    one = {
        "formats": {"a": {"weight_bits": 4}, "b": {"weight_bits": 4}},
        "layers": [{"name": "only"}],
        "costs": {"loss": {"values": [[1.0, 1.5]], "stderr": [[1.0, 0.0]]}},
    }
    found = stability(one, resamples=4_000)
    # E[max(0, ε - 0.5)] of a standard normal ε: φ(½) - ½·(1 - Φ(½))
    expected = math.exp(-0.125) / math.sqrt(2 * math.pi) - 0.5 * math.erfc(0.5 / math.sqrt(2)) / 2
    assert found.layers[0].worth == pytest.approx(expected, abs=0.02)
    assert found.regret == pytest.approx(expected, abs=0.02)


def test_layers_of_a_unit_are_kept_together() -> None:
    found = stability(
        noisy(NOISE, layers=with_units("u", None, "u")), resamples=50, budgets={"weight_bytes": 140}
    )
    assert found.layers[0].shares == found.layers[2].shares


def test_progress_is_told_and_time_is_kept() -> None:
    seen: list[tuple[int, int]] = []
    found = stability(
        noisy(NOISE),
        resamples=10**7,
        progress=lambda *step: seen.append(step),
        budgets={"weight_bytes": 140},
        time_limit_s=0.2,
    )
    assert 2 <= found.resamples == len(seen) < 10**5
    assert seen[0] == (1, 10**7)


@pytest.mark.parametrize(
    ("document", "fields", "words"),
    [
        (profile_json(), {}, "/objective: the tables of 'kl' have no standard errors; measure them"),
        (noisy(NOISE), {"resamples": 1}, "/resamples: expected at least 2, got 1"),
        (
            noisy(NOISE),
            {"budgets": {"weight_bytes": 1}},
            "/budgets: there is no plan to test: Proved: no plan",
        ),
    ],
)
def test_refuses(document: dict[str, Any], fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        stability(document, **fields)
