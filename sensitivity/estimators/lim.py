r"""Importance of a block by how far it turns its input (LIM), times the rounding error of its layers.

.. math:: \mathrm{LIM}_k = -\cos(x_k, y_k), \qquad c_{l,f} = (1 + \mathrm{LIM}_{k(l)})\,
          \frac{\lVert Q_f(W_l) - W_l \rVert^2}{\lVert W_l \rVert^2}

x and y are what goes into and comes out of block k, one vector for each token; the cosine is averaged over tokens, then
over samples. The paper ranks blocks by LIM, largest first. One is added, which keeps the ranking, because the score
itself is negative where a block changes little, and a table must not reward rounding.

Source: R.-G. Dumitru et al., "Layer-Wise Quantization", 2024 (no code is published; the formula is the one that is
quoted of it). Its finding that the first and last layers matter most is followed for layers outside of all blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from allocator import CostTable, Fault, InvalidInputError
from allocator.contract.errors import pointer
from allocator.knapsack.problem import FloatArray
from sensitivity.estimators.block_importance import BlockScores, importance_table, spread
from sensitivity.models.blocks import Block, checked, owners, require_blocks, watching
from sensitivity.study.samples import batch_keys, by_sample, sample_count
from sensitivity.study.study import Study, mean_and_error, require_layers_only
from sensitivity.study.tasks import Key

_MEANING = (
    "1 - cosine between what goes into and what comes out of the layer's block, mean over tokens and samples"
)


def lim(study: Study, *, blocks: Sequence[str] | None = None) -> CostTable:
    """Estimate the table from one forward pass over the data.

    Args:
        study: Model, data, layers and formats. Rows that belong to one sample must be consecutive.
        blocks: Names or globs of the blocks; see :func:`sensitivity.models.blocks.find_blocks`.

    Returns:
        (L, F) with standard errors over samples; those of a layer outside of all blocks are those of the most
        important block.

    Raises:
        InvalidInputError: As in :func:`lim_scores`.
    """
    require_layers_only(study, "lim")
    return importance_table(study, lim_scores(study, blocks=blocks), _MEANING)


def lim_scores(study: Study, *, blocks: Sequence[str] | None = None) -> BlockScores:
    """LIM of every block, and what it says about layers.

    Args:
        blocks: Names or globs of the blocks; see :func:`sensitivity.models.blocks.find_blocks`.

    Returns:
        Scores between -1 and 1, larger for more important blocks.

    Raises:
        InvalidInputError: There are no blocks, or one does not run, changes the shape of its input, gives NaN, or has
            rows that cannot be told apart by sample.
    """
    chosen = require_blocks(study.model, blocks)
    keys = batch_keys(study.batches)
    pieces = study.engine(study, "lim", keys, partial(_turns, patterns=blocks))
    samples = np.concatenate(pieces)  # (N, K), 1 - cos
    means, stderr = mean_and_error(samples)
    importance, importance_stderr = spread(samples, owners(study.layers, chosen))
    names = tuple(block.name for block in chosen)
    return BlockScores(names, means - 1, stderr, importance, importance_stderr)


def _turns(study: Study, key: Key, *, patterns: Sequence[str] | None) -> FloatArray:
    # (B, K)
    index = int(key[0])
    blocks = require_blocks(study.model, patterns)
    seen: dict[str, list[Tensor]] = {block.name: [] for block in blocks}

    def see(block: Block, inputs: Tensor | None, outputs: Tensor | None) -> None:
        seen[block.name].append(_turn(block, checked(block, inputs), checked(block, outputs)))

    with torch.inference_mode(), watching(blocks, see):
        count = sample_count(study.loss_fn(study.model, study.batches[index]), index)
    columns = []
    for name, calls in seen.items():
        if not calls:
            raise InvalidInputError(Fault(pointer(("blocks", name)), "does not run; leave it out"))
        columns.append(by_sample(torch.stack(calls).mean(0), count, name).flatten(1).mean(1))
    turns: FloatArray = torch.stack(columns, dim=1).cpu().numpy()
    return turns


def _turn(block: Block, inputs: Tensor, outputs: Tensor) -> Tensor:
    # (B · m, …) → (B · m,): one minus the cosine of each token's vectors, mean over the tokens of a row
    if inputs.shape != outputs.shape:
        detail = (
            f"turns shape {tuple(inputs.shape)} into {tuple(outputs.shape)}; name blocks that keep the shape of "
            "their input with blocks=[...]"
        )
        raise InvalidInputError(Fault(pointer(("blocks", block.name)), detail))
    vectors = 1 if inputs.dim() == 4 else -1  # channels of an image; otherwise the last dimension
    turn = 1 - nn.functional.cosine_similarity(inputs.double(), outputs.double(), dim=vectors)
    return turn.flatten(1).mean(1) if turn.dim() > 1 else turn
