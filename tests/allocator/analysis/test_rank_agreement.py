"""Rank agreement against its definition, pair by pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from allocator import CostTable
from allocator.analysis.rank_agreement import agreement

NONE = None


def table(values: list[list[float | None]], better: str = "lower") -> CostTable:
    return CostTable.model_validate({"values": values, "better": better})


def tau_b(first: list[float], second: list[float]) -> float:
    """Kendall's tau-b by counting pairs."""
    pairs = list(itertools.combinations(range(len(first)), 2))
    signs = [(np.sign(first[a] - first[b]), np.sign(second[a] - second[b])) for a, b in pairs]
    agreeing = sum(one * other for one, other in signs)
    untied = [sum(sign != 0 for sign in side) for side in zip(*signs, strict=True)]
    return float(agreeing / np.sqrt(untied[0] * untied[1]))


def test_kendall_is_that_of_counting_pairs() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 6, (7, 3)).astype(float), rng.integers(0, 6, (7, 3)).astype(float)
    found = agreement("guess", table(first.tolist()), table(second.tolist()))
    assert found.table == "guess"
    assert found.kendall == pytest.approx(tau_b(first.ravel().tolist(), second.ravel().tolist()))
    columns = [tau_b(*pair) for pair in zip(first.T.tolist(), second.T.tolist(), strict=True)]
    assert found.kendall_of_layers == pytest.approx(np.mean(columns))


def test_entries_that_one_table_lacks_play_no_part() -> None:
    whole = agreement("a", table([[1, 5], [2, 9], [4, 3]]), table([[1, 2], [3, 8], [2, 1]]))
    holes = agreement(
        "a", table([[1, 5], [2, 9], [4, 3], [7, None]]), table([[1, 2], [3, 8], [2, 1], [None, 4]])
    )
    assert holes == whole


def test_a_table_where_higher_is_better_is_turned_around() -> None:
    found = agreement("sqnr", table([[1, 2], [3, 4]], "higher"), table([[4, 3], [2, 1]]))
    assert found.kendall == pytest.approx(1)
    assert found.spearman == pytest.approx(1)


def test_a_constant_has_no_order() -> None:
    found = agreement("flat", table([[1, 1], [1, 1]]), table([[4, 3], [2, 1]]))
    assert (found.kendall, found.spearman, found.kendall_of_layers) == (None, None, None)
