r"""Which blocks depend on each other so much that their layers should be measured together (Q-VLM).

.. math:: p_m(x) = \frac{e^{-(x - q_m)^2 / \Delta}}{\sum_{m'} e^{-(x - q_{m'})^2 / \Delta}}, \qquad
          P_{mm'} = \operatorname{mean}_j\, p_m(x_{k,j})\, p_{m'}(x_{k+1,j}), \qquad
          D_k = -\sum_{mm'} P_{mm'} \log \frac{P_{mm'}}{\sum_{m''} P_{mm''}}

x_k are the outputs of block k for one sample, normalised to mean 0 and variance 1; q are evenly spaced levels from -3
to 3 and Δ is the square of their distance. D is the conditional entropy of what block k + 1 gives, knowing what block k
gave, in nats; the paper takes it for the dependence of the two. Blocks r to s are measured together if

.. math:: D_r + \dots + D_{s-1} > (s - r)\, h_0

and groups are as long as that allows, from the first block on.

Source: C. Wang et al., "Q-VLM", NeurIPS 2024 (there with the entropies of its own search space; the pairing of outputs
element by element, and the median as h₀, are ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from allocator.knapsack.problem import FloatArray
from sensitivity.models.blocks import Block, checked, owners, require_blocks, watching
from sensitivity.study.samples import batch_keys, by_sample, sample_count
from sensitivity.study.study import Study, mean_and_error
from sensitivity.study.tasks import Key

_REACH = 3.0  # standard deviations that the levels cover to either side


@dataclass(frozen=True, eq=False)
class Dependence:
    """How much neighbouring blocks depend on each other, and the groups that follow.

    Attributes:
        blocks: K names, in the order of the model.
        entropy_nats: (K - 1,) conditional entropy of each block's output given that of the one before; NaN where the
            two have different shapes and cannot be paired.
        stderr_nats: (K - 1,) standard errors; None for a single sample.
        threshold_nats: h₀.
        groups: The blocks, in groups to measure together.
        layers: The layers of each group, in the order of the study; groups without layers are empty. Layers outside of
            all blocks are in none.
    """

    blocks: tuple[str, ...]
    entropy_nats: FloatArray
    stderr_nats: FloatArray | None
    threshold_nats: float
    groups: tuple[tuple[str, ...], ...]
    layers: tuple[tuple[str, ...], ...]


def entropy(
    study: Study,
    *,
    blocks: Sequence[str] | None = None,
    levels: int = 16,
    most: int = 3,
    threshold_nats: float | None = None,
) -> Dependence:
    """Group the blocks of a model from one forward pass over the data.

    Args:
        study: Model, data and layers. Rows that belong to one sample must be consecutive.
        blocks: Names or globs of the blocks; see :func:`sensitivity.models.blocks.find_blocks`.
        levels: Levels that activations are assigned to.
        most: Blocks in a group at most.
        threshold_nats: h₀; the median of the entropies when absent.

    Returns:
        Entropies and groups.

    Raises:
        InvalidInputError: There are fewer than two blocks, one does not run or gives NaN, or an option is out of range.
    """
    if levels < 2:
        raise InvalidInputError(Fault("/levels", f"expected at least 2 levels, got {levels}"))
    if most < 1:
        raise InvalidInputError(Fault("/most", f"expected groups of at least 1 block, got {most}"))
    chosen = require_blocks(study.model, blocks, least=2)
    keys = batch_keys(study.batches)
    pieces = study.engine(study, "entropy", keys, partial(_entropies, patterns=blocks, levels=levels))
    means, stderr = mean_and_error(np.concatenate(pieces))  # (K - 1,)
    if threshold_nats is None:
        known = means[np.isfinite(means)]
        threshold_nats = float(np.median(known)) if known.size else 0.0
    groups = partition(means, threshold_nats, most)
    owner = owners(study.layers, chosen)
    return Dependence(
        blocks=tuple(block.name for block in chosen),
        entropy_nats=means,
        stderr_nats=stderr,
        threshold_nats=threshold_nats,
        groups=tuple(tuple(chosen[index].name for index in group) for group in groups),
        layers=tuple(
            tuple(layer.name for layer, block in zip(study.layers, owner, strict=True) if block in group)
            for group in groups
        ),
    )


def partition(entropy_nats: FloatArray, threshold_nats: float, most: int) -> tuple[tuple[int, ...], ...]:
    """Cut a chain of blocks into groups, from the first on, each as long as the threshold allows.

    Args:
        entropy_nats: (K - 1,) between neighbours; NaN ends a group.
        threshold_nats: h₀, which the mean over the neighbours in a group exceeds.
        most: Blocks in a group at most.

    Returns:
        Indices of the blocks of each group.

    Example:
        >>> partition(np.array([2.0, 0.9, 0.1, 3.0]), 1.0, most=3)
        ((0, 1, 2), (3, 4))
    """
    groups: list[tuple[int, ...]] = []
    first = 0
    while first <= len(entropy_nats):
        last = first
        for end in range(first + 1, min(first + most, len(entropy_nats) + 1)):
            if entropy_nats[first:end].sum() > (end - first) * threshold_nats:
                last = end
        groups.append(tuple(range(first, last + 1)))
        first = last + 1
    return tuple(groups)


def _entropies(study: Study, key: Key, *, patterns: Sequence[str] | None, levels: int) -> FloatArray:
    # (B, K - 1)
    index = int(key[0])
    blocks = require_blocks(study.model, patterns, least=2)
    outputs: dict[str, Tensor] = {}

    def see(block: Block, inputs: Tensor | None, output: Tensor | None) -> None:
        del inputs
        outputs[block.name] = checked(block, output).clone()

    with torch.inference_mode(), watching(blocks, see):
        count = sample_count(study.loss_fn(study.model, study.batches[index]), index)
    for block in blocks:
        if block.name not in outputs:
            raise InvalidInputError(Fault(pointer(("blocks", block.name)), "does not run; leave it out"))
    rows = [by_sample(outputs[block.name].double(), count, block.name) for block in blocks]
    columns = np.full((count, len(blocks) - 1), np.nan)
    for column, (first, second) in enumerate(pairwise(rows)):
        if first.shape == second.shape:
            pairs = zip(first.flatten(1), second.flatten(1), strict=True)
            columns[:, column] = [conditional_entropy(*pair, levels) for pair in pairs]
    return columns


def conditional_entropy(given: Tensor, then: Tensor, levels: int) -> float:
    """Entropy of one activation, knowing another element by element.

    Args:
        given: (n,)
        then: (n,)
        levels: M, number of levels that both are assigned to.

    Returns:
        Nats, between 0 and log M.

    Example:
        >>> flat = torch.zeros(5)
        >>> f"{conditional_entropy(flat, flat, levels=2):.6f}"  # log 2: always between the two levels
        '0.693147'
    """
    joint = _assigned(given, levels).T @ _assigned(then, levels) / len(given)  # (M, M)
    conditional = joint / joint.sum(1, keepdim=True)
    return float(-torch.special.xlogy(joint, conditional).sum())


def _assigned(values: Tensor, levels: int) -> Tensor:
    # (n,) → (n, M), each row sums to 1
    spread = values.std(correction=0)
    normed = (values - values.mean()) / torch.where(spread > 0, spread, torch.ones_like(spread))
    grid = torch.linspace(-_REACH, _REACH, levels, dtype=values.dtype, device=values.device)
    step = 2 * _REACH / (levels - 1)
    return torch.softmax(-((normed[:, None] - grid) ** 2) / step**2, dim=1)
