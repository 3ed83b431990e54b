r"""Squared error that rounding a layer makes in that layer's own output.

.. math:: c_{l,f} = \frac{1}{N} \sum_t \lVert \Delta W_{l,f} \, x_{l,t} \rVert^2
                  = \frac{1}{N} \operatorname{tr}(\Delta W_{l,f} \, X_l^\top X_l \, \Delta W_{l,f}^\top)

The sum runs over everything that passes through the layer (tokens, patches), N is the number of samples. It needs no
gradients and no labels, but it does not know what the rest of the model makes of a layer's output: compare layers with
it only after weighting it with an importance (:mod:`sensitivity.tables.compose`).

Source: the layer-wise objective of M. Nagel et al., "AdaRound", ICML 2020, eq. 19, I. Hubara et al., "CalibTIP", ICML
2021, and E. Frantar et al., "GPTQ", ICLR 2023, eq. 1.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from allocator import CostTable, Fault, InvalidInputError
from allocator.contract.errors import pointer
from allocator.knapsack.problem import FloatArray
from sensitivity.curvature.rounding_error import weight_change
from sensitivity.models.module_calls import on_call
from sensitivity.study.calibration import sample_losses
from sensitivity.study.second_moment import second_moment, squared_output_error
from sensitivity.study.study import Study, once, require_layers_only, table
from sensitivity.study.tasks import Key

_MEANING = (
    "squared error in the output of the layer, summed over its rows and channels; normalisation: mean per sample; "
    "standard errors over batches"
)


def output_mse(study: Study) -> CostTable:
    """Fill the table from one forward pass over the data.

    Returns:
        (L, F), with standard errors where there are at least two batches.

    Raises:
        InvalidInputError: A layer takes no part in the loss, or its inputs are not finite.
    """
    require_layers_only(study, "output_mse")
    keys = [(str(index),) for index in range(len(study.batches))]
    pieces = np.array(study.engine(study, "output_mse", keys, _batch))  # (K, L + 1, F)
    sums, counts = pieces[:, :-1], pieces[:, -1:]
    values = sums.sum(axis=0) / counts.sum(axis=0)  # (L, F)
    if len(pieces) < 2:
        return table(values, None, _MEANING, comparable="one_kind")
    # A ratio of sums: batches need not have the same size.
    spread = np.sqrt(np.square(sums - counts * values).sum(axis=0) * len(pieces) / (len(pieces) - 1))
    return table(values, spread / counts.sum(axis=0), _MEANING, comparable="one_kind")


def _batch(study: Study, key: Key) -> FloatArray:
    changes = once(study, "changes", partial(_changes, study))
    sums = np.zeros((len(study.layers) + 1, len(study.formats)))
    seen: set[int] = set()
    with ExitStack() as notes:
        for index, layer in enumerate(study.layers):

            def gather(module: nn.Module, inputs: Tensor, _: Tensor, index: int = index) -> None:
                moment = second_moment(module, inputs)
                sums[index] += [squared_output_error(change, moment) for change in changes[index]]
                seen.add(index)

            for module in layer.modules:
                notes.callback(on_call(module, gather))
        with torch.no_grad():
            sums[-1] = len(sample_losses(study.model, study.batches[int(key[0])], study.loss_fn))
    _check(study, sums, seen)
    return sums


def _changes(study: Study) -> list[list[Tensor]]:
    return [[weight_change(study, layer, fmt) for fmt in study.formats] for layer in study.layers]


def _check(study: Study, sums: FloatArray, seen: set[int]) -> None:
    faults = []
    for index, layer in enumerate(study.layers):
        if index not in seen:
            faults.append(Fault(pointer(("layers", layer.name)), "takes no part in the loss; exclude it"))
        elif not np.isfinite(sums[index]).all():
            faults.append(Fault(pointer(("layers", layer.name)), "its inputs are NaN or infinite on a batch"))
    if faults:
        raise InvalidInputError(*faults)
