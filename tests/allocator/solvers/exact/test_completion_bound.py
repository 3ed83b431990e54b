"""The completion bound must never exceed what completing a state really adds."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from allocator.solvers.exact.completion_bound import Completion


@pytest.mark.parametrize("limits", [1, 2, 3, 5])
@pytest.mark.thorough
def test_never_exceeds_the_cheapest_completion(limits: int) -> None:
    rng = np.random.default_rng(limits)
    pruned = 0
    for _ in range(60):
        units, options = 4, 3
        reduced = rng.exponential(size=(units, options))
        reduced[rng.random(reduced.shape) < 0.2] = np.inf
        steps = rng.normal(size=(limits, units, options))
        multipliers = np.where(rng.random(limits) < 0.8, rng.random(limits), 0.0)
        position = int(rng.integers(0, units + 1))
        overspend, before = rng.normal(size=(50, limits)), rng.exponential(size=50)
        kept, bound = Completion(reduced, steps, multipliers, 2.0).alive(position, overspend, before, 2.0)
        for state in range(50):
            best = np.inf
            for plan in product(range(options + 1), repeat=units - position):
                chosen = [(position + unit, option - 1) for unit, option in enumerate(plan) if option]
                added = sum(reduced[item] for item in chosen)
                after = overspend[state] + sum(
                    (steps[:, unit, option] for unit, option in chosen), np.zeros(limits)
                )
                if (after <= 1e-12).all():
                    # Room that is left over costs its price: the bound is on the objective, not on ρ alone.
                    best = min(best, before[state] + added - float(multipliers @ after))
            if state in kept:
                assert bound[kept.tolist().index(state)] <= best + 1e-9
            else:
                pruned += 1
                assert best >= 2.0 - 1e-9
    assert pruned > 100
