r"""Second moments of what goes into a layer, and the output error that a change of its weight makes.

.. math:: \sum_t \lVert \Delta W x_t \rVert^2 = \operatorname{tr}(\Delta W \, X^\top X \, \Delta W^\top)

XᵀX is all that one needs to know of the inputs, for every format at once, and moments of batches add up: data can
stream through, batch by batch and layer by layer. A row x_t is a token for Linear layers, a patch for convolutions
(one moment for each group of channels), and a unit vector for embeddings, whose moment is the number of times each
entry occurs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def second_moment(module: nn.Module, inputs: Tensor) -> Tensor:
    """Sum of squares and products of the inputs.

    Args:
        module: A Linear, Conv1d, Conv2d or Embedding.

    Returns:
        (groups, in, in) for weights of ``in`` columns per group of rows; (entries,) counts for embeddings.

    Example:
        >>> second_moment(nn.Linear(2, 1), torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [[[10.0, 14.0], [14.0, 20.0]]]
    """
    if isinstance(module, nn.Embedding):
        return torch.bincount(inputs.flatten(), minlength=module.num_embeddings).double()
    rows = _patches(module, inputs) if isinstance(module, _CONVOLUTIONS) else inputs.flatten(0, -2)[None]
    return rows.transpose(1, 2) @ rows  # (G, in, in)


def squared_output_error(change: Tensor, moment: Tensor) -> float:
    """Squared distance between the outputs before and after a change of the weight.

    Args:
        change: ΔW, like the weight.
        moment: From :func:`second_moment`, or a sum of several.

    Returns:
        Σ_t ‖ΔW x_t‖².
    """
    if moment.dim() == 1:  # entries of an embedding
        used = moment.nonzero()[:, 0]
        return float(moment[used] @ change[used].double().square().sum(1).to(moment.device))
    rows = change.reshape(len(moment), -1, moment.shape[-1]).to(moment)  # (G, out / G, in)
    return float(((rows @ moment) * rows).sum(dtype=torch.float64))


def _patches(module: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> Tensor:
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = nn.functional.pad(inputs, module._reversed_padding_repeated_twice, mode=mode)
    kernel, dilation, stride = module.kernel_size, module.dilation, module.stride
    if isinstance(module, nn.Conv1d):  # a picture one pixel high
        padded, kernel, dilation, stride = padded[..., None, :], (1, *kernel), (1, *dilation), (1, *stride)
    columns = nn.functional.unfold(padded, kernel, dilation, 0, stride)  # (B, in · k, P)
    count, _, positions = columns.shape
    grouped = columns.reshape(count, module.groups, -1, positions)  # (B, G, in / G · k, P)
    return grouped.permute(1, 0, 3, 2).reshape(module.groups, count * positions, -1)
