r"""How far rounding moves the weights of each layer, whatever the model makes of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from allocator.knapsack.problem import FloatArray
from quantize import StorageFormat
from sensitivity.models.layers import LayerRef
from sensitivity.study.study import Study, weight_in


def weight_change(study: Study, layer: LayerRef, fmt: StorageFormat) -> Tensor:
    """What rounding adds to a weight.

    Args:
        study: Says how to round.

    Returns:
        ΔW = Q(W) − W, like ``layer.weight``.
    """
    return weight_in(study, layer, fmt) - layer.weight.detach()


def squared_errors(study: Study) -> FloatArray:
    r"""Return the sums of squares of what rounding adds, :math:`\lVert Q_f(W_l) - W_l \rVert_2^2`, (L, F)."""
    return np.array(
        [
            [
                float(weight_change(study, layer, fmt).square().sum(dtype=torch.float64))
                for fmt in study.formats
            ]
            for layer in study.layers
        ]
    )
