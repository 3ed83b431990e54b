r"""Fisher information weighted squared rounding error.

.. math:: c_{l,f} = \frac{1}{N} \sum_{i=1}^{N} \sum_{jk} \Big(\frac{\partial \ell_i}{\partial W_{l,jk}}\Big)^2
                    \big(Q_f(W_l) - W_l\big)_{jk}^2

With the labels of the data this is the empirical Fisher information, which is large wherever the model errs. With
labels drawn from the model's own distribution it is the Fisher information proper, which is the diagonal of the
Gauss-Newton matrix of the output metric. Per-sample gradients come without a loop, see
:mod:`sensitivity.curvature.sample_gradients`.

Source: H. Guo et al., "LQ-LoRA", ICLR 2024 (there summed over samples, here averaged); S. Kim et al., "SqueezeLLM",
ICML 2024. On the two kinds of labels: F. Kunstner et al., "Limitations of the empirical Fisher approximation",
NeurIPS 2019.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from allocator import CostTable, Fault, InvalidInputError
from allocator.contract.errors import pointer, unknown
from allocator.knapsack.problem import FloatArray
from sensitivity.curvature.gradients import requiring_grad
from sensitivity.curvature.output_metrics import METRICS, OutputFunction, checked_outputs
from sensitivity.curvature.rounding_error import weight_change
from sensitivity.curvature.sample_gradients import (
    Record,
    by_sample,
    output_gradients,
    recording,
    require_part,
    require_separate,
    sample_gradient,
)
from sensitivity.models.layers import LayerRef
from sensitivity.study.calibration import sample_losses
from sensitivity.study.study import Study, derived_seed, mean_and_error, once, require_layers_only, table
from sensitivity.study.tasks import Key

_LABELS = ("given", "sampled")


def fisher(
    study: Study,
    *,
    labels: Literal["given", "sampled"] = "given",
    outputs: OutputFunction | None = None,
    metric: str = "softmax_kl",
) -> CostTable:
    """Estimate the table from one backward pass over the data.

    Args:
        study: Model, data, layers and formats. Rows that belong to one sample must be consecutive: a batch of B
            losses may run through the model as B · m rows.
        labels: ``given`` takes the losses of the study; ``sampled`` ignores them and draws one label per row of the
            outputs from the distribution that the metric stands for.
        outputs: (model, batch) → (B, …, C), such as the logits; for sampled labels.
        metric: ``softmax_kl`` draws classes, ``squared_error`` Gaussian targets of variance 1. A sample with T rows of
            outputs counts with their mean, as in the table ``gauss_newton``.

    Returns:
        (L, F) with standard errors over samples.

    Raises:
        InvalidInputError: Losses mix samples, a layer's rows cannot be told apart by sample, a gradient is not
            finite (names the layer), or an argument is not one of the above.
    """
    require_layers_only(study, "fisher")
    if labels not in _LABELS:
        raise InvalidInputError(Fault("/labels", unknown(labels, _LABELS, "kind of labels")))
    if labels == "sampled":
        METRICS.find(metric)
    if (labels == "sampled") != (outputs is not None):
        detail = "labels='sampled' needs a function (model, batch) → (B, …, C), such as the logits; 'given' takes none"
        raise InvalidInputError(Fault("/outputs", detail))
    stage = "fisher" if labels == "given" else f"fisher sampled {metric}"
    keys = [(str(index),) for index in range(len(study.batches))]
    pieces = study.engine(study, stage, keys, partial(_batch, outputs=outputs, metric=metric))
    values, errors = mean_and_error(np.concatenate(pieces))
    kind = "labels of the data" if labels == "given" else f"labels drawn from the model, {metric}"
    meaning = (
        f"squared per-sample gradient of the calibration loss ({kind}), averaged over samples, times the squared "
        "rounding error, summed over the weights of the layer"
    )
    return table(values, errors, meaning)


def _batch(study: Study, key: Key, *, outputs: OutputFunction | None, metric: str) -> FloatArray:
    squared = once(study, "squared errors", partial(_squared_errors, study))
    index = int(key[0])
    weights = [layer.weight for layer in study.layers]
    with requiring_grad(study.model, weights), recording(study.layers) as recorded:
        losses = _losses(study, index, outputs, metric)  # (B,)
        require_part(recorded, losses)
        if len(losses) > 1:
            once(study, "separate", partial(require_separate, losses, recorded))
        gradients = output_gradients(losses.sum(), recorded)
        with torch.no_grad():
            rows = [
                _weighted_squares(*item, len(losses))
                for item in zip(recorded, gradients, squared, strict=True)
            ]
    return _finite(torch.stack(rows, dim=1), study.layers)  # (B, L, F)


def _losses(study: Study, index: int, outputs: OutputFunction | None, metric: str) -> Tensor:
    if outputs is None:
        return sample_losses(study.model, study.batches[index], study.loss_fn)
    made = checked_outputs(outputs(study.model, study.batches[index]))
    generator = torch.Generator().manual_seed(derived_seed(study.seed, "fisher", index))
    rows = METRICS.find(metric).label_loss(made, generator)  # (B, …)
    if rows.dim() == 1:
        return rows
    # Scores of independent labels add up in the square: T rows, each divided by √T, give the mean of T.
    rows = rows.flatten(1)
    losses: Tensor = rows.sum(1) / rows.shape[1] ** 0.5
    return losses


def _finite(rows: Tensor, layers: tuple[LayerRef, ...]) -> FloatArray:
    samples: FloatArray = rows.double().cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=(0, 2)))
    if bad.size:
        detail = "its gradient is NaN or infinite on a calibration batch"
        raise InvalidInputError(*(Fault(pointer(("layers", layers[index].name)), detail) for index in bad))
    return samples


def _weighted_squares(record: Record, gradients: list[Tensor], error: Tensor, count: int) -> Tensor:
    pairs = [
        (call.module, by_sample(record, call.inputs, count), by_sample(record, gradient, count))
        for call, gradient in zip(record.calls, gradients, strict=True)
    ]
    if all(isinstance(module, nn.Embedding) for module, _, _ in pairs):
        return _sparse_squares([(inputs, outputs) for _, inputs, outputs in pairs], error, count)
    dense = [sample_gradient(*pair) for pair in pairs]  # (B, out, in, …) each
    total = dense[0]
    for gradient in dense[1:]:
        total = total + gradient
    products: Tensor = total.square().flatten(1) @ error.flatten(1).T  # (B, F)
    return products


def _sparse_squares(pairs: list[tuple[Tensor, Tensor]], error: Tensor, count: int) -> Tensor:
    # Only rows of tokens that occur have a gradient, so (sample, token) pairs stand in for the dense matrix.
    entries, width = error.shape[1:]
    owner = [torch.arange(count).repeat_interleave(inputs[0].numel()) for inputs, _ in pairs]
    tokens = [who * entries + inputs.flatten() for who, (inputs, _) in zip(owner, pairs, strict=True)]
    rows = torch.cat([outputs.reshape(-1, width) for _, outputs in pairs])
    kept, position = torch.unique(torch.cat(tokens), return_inverse=True)
    gradient = torch.zeros(len(kept), width, dtype=rows.dtype).index_add_(0, position, rows)  # (K, D)
    products = torch.einsum("kd,fkd->kf", gradient.square_(), error[:, kept % entries])  # (K, F)
    return torch.zeros(count, len(error), dtype=rows.dtype).index_add_(0, kept // entries, products)


def _squared_errors(study: Study) -> list[Tensor]:
    # (F, …) for each layer
    return [
        torch.stack([weight_change(study, layer, fmt).square_() for fmt in study.formats])
        for layer in study.layers
    ]
