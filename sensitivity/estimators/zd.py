r"""Importance of a block by its large weights (ZD), times the rounding error of its layers; needs no data.

.. math:: \mathrm{ZD}_k = \frac{\#\{w \in W_k : (w - \mu_k) / \sigma_k > 1\}}{n_k}, \qquad
          c_{l,f} = (1 - \mathrm{ZD}_{k(l)})\, \frac{\lVert Q_f(W_l) - W_l \rVert^2}{\lVert W_l \rVert^2}

Mean and standard deviation are those of all weights of block k together. The paper ranks blocks by ZD, smallest first:
a block with few weights that stand out is important. One minus ZD keeps the ranking.

Source: R.-G. Dumitru et al., "Layer-Wise Quantization", 2024 (no code is published; the threshold of one standard
deviation is the one that is quoted of it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from allocator import CostTable, Fault, InvalidInputError
from allocator.contract.errors import pointer
from allocator.knapsack.problem import FloatArray
from sensitivity.estimators.block_importance import BlockScores, importance_table
from sensitivity.models.blocks import find_blocks, owners
from sensitivity.models.layers import LayerRef
from sensitivity.study.study import Study, require_layers_only
from sensitivity.study.tasks import Key

_MEANING = (
    "1 - share of the weights of the layer's block that lie more than one standard deviation above their mean"
)


def zd(study: Study, *, blocks: Sequence[str] | None = None) -> CostTable:
    """Compute the table from the weights alone.

    Args:
        study: Layers and formats; the data is not looked at.
        blocks: Names or globs of the blocks; see :func:`sensitivity.models.blocks.find_blocks`. A layer outside of
            all is a block of its own.

    Returns:
        (L, F), exact and therefore without standard errors.

    Raises:
        InvalidInputError: A weight is NaN or infinite.
    """
    require_layers_only(study, "zd")
    return importance_table(study, zd_scores(study, blocks=blocks), _MEANING)


def zd_scores(study: Study, *, blocks: Sequence[str] | None = None) -> BlockScores:
    """ZD of every block, and what it says about layers.

    Args:
        blocks: Names or globs of the blocks; see :func:`sensitivity.models.blocks.find_blocks`.

    Returns:
        Scores between 0 and 1/2, smaller for more important blocks. Blocks without layers are left out, layers
        without a block come under their own name.

    Raises:
        InvalidInputError: A weight is NaN or infinite.
    """
    found = find_blocks(study.model, blocks)
    owner = owners(study.layers, found)
    names = [
        layer.name if block is None else found[block].name
        for layer, block in zip(study.layers, owner, strict=True)
    ]
    members = {
        name: tuple(layer for layer, of in zip(study.layers, names, strict=True) if of == name)
        for name in names
    }
    keys = [(name,) for name in members]
    scores = np.concatenate(study.engine(study, "zd", keys, partial(_piece, members=_named(members))))
    by_name = dict(zip(members, 1 - scores, strict=True))
    return BlockScores(tuple(members), scores, None, np.array([by_name[name] for name in names]), None)


def _named(members: dict[str, tuple[LayerRef, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(layer.name for layer in layers) for name, layers in members.items()}


def _piece(study: Study, key: Key, *, members: dict[str, tuple[str, ...]]) -> FloatArray:
    layers = [layer for layer in study.layers if layer.name in members[key[0]]]
    for layer in layers:
        if not torch.isfinite(layer.weight).all():
            detail = "has weights that are NaN or infinite; load the checkpoint again"
            raise InvalidInputError(Fault(pointer(("layers", layer.name)), detail))
    return np.array([share_beyond(lambda: (layer.weight.detach() for layer in layers))])


def share_beyond(parts: Callable[[], Iterable[Tensor]], deviations: float = 1.0) -> float:
    """Share of numbers that lie above the mean by more than some (population) standard deviations.

    Args:
        parts: Gives tensors that are taken together, such as slices of a weight that is not in memory; asked twice.

    Returns:
        Between 0 and 1; 0 where all numbers are the same.

    Example:
        >>> share_beyond(lambda: [torch.tensor([0.0, 0.0, 0.0]), torch.tensor([4.0])])
        0.25
    """
    count, mean, squares = 0, 0.0, 0.0
    for part in parts():  # means and squares of two samples are merged as by Chan, Golub and LeVeque
        wide = part.double()
        size, middle = wide.numel(), float(wide.mean())
        step = middle - mean
        squares += float((wide - middle).square().sum()) + step**2 * count * size / (count + size)
        mean += step * size / (count + size)
        count += size
    limit = deviations * (squares / count) ** 0.5
    return sum(int((part.double() - mean > limit).sum()) for part in parts()) / count
