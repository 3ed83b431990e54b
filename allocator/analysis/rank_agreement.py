"""Do two cost tables order layers and formats alike? Rank agreement, which no scaling of a table changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from allocator.contract.profile import CostTable
from allocator.knapsack.problem import FloatArray


@dataclass(frozen=True)
class Agreement:
    """Rank agreement of a table with the reference.

    Attributes:
        table: Name of the table.
        kendall: Kendall's τ-b over all entries; 1 for the same order. None where a table is constant.
        spearman: Spearman's ρ over all entries.
        kendall_of_layers: Mean over formats of τ-b over the layers: the order of formats, on which every table
            agrees, plays no part in it.
        spearman_of_layers: Likewise ρ.
    """

    table: str
    kendall: float | None
    spearman: float | None
    kendall_of_layers: float | None
    spearman_of_layers: float | None


def agreement(name: str, table: CostTable, reference: CostTable) -> Agreement:
    """Measure how far a table orders its entries like another one.

    Entries that either table lacks are left out; tables where higher is better are turned around.

    Args:
        table: (L, F) the table.
        reference: (L, F) the table to agree with.

    Returns:
        The agreement.

    Source: M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945, for τ-b.

    Example:
        >>> table = CostTable(values=((0.5, 0.1), (0.9, 0.2)))
        >>> agreement("twice", CostTable(values=((1.0, 0.2), (1.8, 0.4))), table).kendall
        1.0
    """
    from scipy.stats import kendalltau, spearmanr  # takes longer to import than all the rest of the service

    first, second = _signed(table), _signed(reference)
    present = ~np.isnan(first) & ~np.isnan(second)
    pairs = [(first[rows, column], second[rows, column]) for column, rows in enumerate(present.T)]
    return Agreement(
        name,
        _rank(kendalltau, first[present], second[present]),
        _rank(spearmanr, first[present], second[present]),
        _mean([_rank(kendalltau, *pair) for pair in pairs]),
        _mean([_rank(spearmanr, *pair) for pair in pairs]),
    )


def _signed(table: CostTable) -> FloatArray:
    values = np.array(table.values, dtype=float)
    return -values if table.better == "higher" else values


def _rank(measure: Callable[..., Any], first: FloatArray, second: FloatArray) -> float | None:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None  # a constant has no order
    return float(measure(first, second).statistic)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
