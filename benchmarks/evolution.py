"""Evolutionary search over plans, as a rival of ``refine``.

After O. Sieberling et al., "EvoPress: Accurate Dynamic Model Compression via Evolutionary Search", ICML 2025,
algorithm 1: offspring of the best plan so far differ by few level switches, each of which takes bits from one layer and
gives them to another, so that the total size does not grow. The number of switches is the smaller of two draws. Unlike
there every offspring is measured on all data, so that evaluations can be counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from allocator.knapsack.problem import FloatArray, IntArray

_SWITCHES = 3
_ATTEMPTS = 1000


def evolve(
    spend: FloatArray,
    limit: float,
    parents: Sequence[IntArray],
    measure: Callable[[IntArray], float],
    *,
    evaluations: int,
    offspring: int = 4,
    seed: int = 0,
) -> list[tuple[IntArray, float]]:
    """Search.

    Args:
        spend: (L, F) what each option spends, rising along F.
        limit: The most that a plan may spend.
        parents: Plans within the limit, each (L,), that are measured first; they count as evaluations.
        measure: Plan → loss.
        evaluations: Plans to measure, no plan twice.
        offspring: Plans of one generation; the best of them and their parent survives.
        seed: Seed of the mutations.

    Returns:
        Measured plans with their losses, in order; fewer where no new plan was found.
    """
    random = np.random.default_rng(seed)
    seen: dict[bytes, float] = {}
    measured: list[tuple[IntArray, float]] = []

    def measure_new(plan: IntArray) -> None:
        if bytes(plan) not in seen and len(measured) < evaluations:
            seen[bytes(plan)] = measure(plan)
            measured.append((plan, seen[bytes(plan)]))

    for plan in parents:
        measure_new(np.asarray(plan, dtype=np.int64))
    while len(measured) < evaluations:
        best = min(measured, key=lambda item: item[1])[0]
        children = [_child(best, spend, limit, seen, random) for _ in range(offspring)]
        fresh = [child for child in children if child is not None]
        if not fresh:
            break
        for child in fresh:
            measure_new(child)
    return measured


def _child(
    parent: IntArray, spend: FloatArray, limit: float, seen: dict[bytes, float], random: np.random.Generator
) -> IntArray | None:
    at = np.arange(len(parent))
    for _ in range(_ATTEMPTS):
        child = parent.copy()
        for _ in range(min(random.integers(1, _SWITCHES + 1, size=2))):
            down, up = random.choice(len(parent), size=2, replace=False)
            if child[down] > 0 and child[up] < spend.shape[1] - 1:
                child[down] -= 1
                child[up] += 1
        if bytes(child) not in seen and spend[at, child].sum() <= limit:
            return child
    return None
