"""What estimators that rank blocks have in common: scores of blocks, and a table from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allocator import CostTable
from allocator.knapsack.problem import FloatArray
from sensitivity.relevance.relative_error import weight_errors
from sensitivity.study.study import Study, mean_and_error, table


@dataclass(frozen=True, eq=False)
class BlockScores:
    """How important blocks are, by the measure of a paper and as a weight for tables.

    Attributes:
        blocks: K names.
        scores: (K,) in the paper's own sign and scale.
        stderr: (K,) standard errors; None for a score without samples.
        importance: (L,) by layer, at least 0, more important first; layers of a block share one number.
        importance_stderr: (L,) standard errors likewise.
    """

    blocks: tuple[str, ...]
    scores: FloatArray
    stderr: FloatArray | None
    importance: FloatArray
    importance_stderr: FloatArray | None


def importance_table(study: Study, found: BlockScores, meaning: str) -> CostTable:
    """Importance of a layer times its relative squared rounding error.

    Args:
        meaning: What the importance is.

    Returns:
        (L, F), with standard errors where the importance has them.
    """
    errors = weight_errors(study)
    stderr = found.importance_stderr
    return table(
        found.importance[:, None] * errors,
        None if stderr is None else stderr[:, None] * errors,
        f"{meaning}, times the relative squared rounding error of the weight",
    )


def spread(samples: FloatArray, owner: Sequence[int | None]) -> tuple[FloatArray, FloatArray | None]:
    """Give layers the importance of their blocks; a layer outside of all has that of the most important one.

    Args:
        samples: (N, K) importance of blocks by sample.
        owner: (L,) block of every layer.

    Returns:
        (L,) mean importance, and its standard error; the latter is None for a single sample.
    """
    means, errors = mean_and_error(samples)
    top = int(means.argmax())
    index = np.array([top if block is None else block for block in owner])
    return means[index], None if errors is None else errors[index]
