r"""Relevance of a layer times its relative rounding error.

.. math:: c_{l,f} = \frac{1}{N} \sum_{i=1}^{N} \rho_{i,l}\, e_{i,l,f}, \qquad
          \rho_{i,l} = \frac{\sum_j |R_{i,l,j}|}{\sum_{l'} \sum_j |R_{i,l',j}|}

R_{i,l,j} is the relevance that arrives at output j of layer l when the explained number of sample i (its loss, unless
another is given) is traced back through the model. Sums are over absolute values: relevance is conserved, so that
signed sums are the same for every layer of a chain. e is the relative squared error of the layer's output, or of its
weight.

The relevance at the outputs of the model is output times gradient of the explained number, which is the number itself
where it is one of the outputs. What is lost on the way to the inputs and embeddings is the conservation error: biases
and position parameters absorb relevance, the softmax of AttnLRP and functions without a rule do not keep it.

Source: N. Ranjan, A. Savakis, "LRP-QViT", 2024 (relevance as a layer's contribution; no code is published, and the
normalisation is ours); rules in :mod:`sensitivity.relevance.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from allocator import CostTable, Fault, InvalidInputError
from allocator.contract.errors import pointer, unknown
from allocator.knapsack.problem import FloatArray
from sensitivity.curvature.gradients import requiring_grad
from sensitivity.relevance.propagation import Trace, propagating
from sensitivity.relevance.relative_error import output_errors, weight_errors
from sensitivity.relevance.rules import ATTN_LRP, Rules
from sensitivity.study.calibration import Batch, LossFunction
from sensitivity.study.samples import batch_keys, by_sample, require_use, sample_count
from sensitivity.study.study import Study, mean_and_error, require_layers_only, table
from sensitivity.study.tasks import Key

_ERRORS = ("output", "weight")


@dataclass(frozen=True, eq=False)
class Relevance:
    """How much of the relevance passes each layer.

    Attributes:
        samples: (N, L) shares by sample; each row sums to 1, or is 0 where nothing is relevant.
        shares: (L,) their mean.
        stderr: (L,) standard error of the mean; None for a single sample.
        conservation_error: Σ abs(arrived at the inputs − left the outputs) ÷ Σ abs(left the outputs), sums over
            samples; infinite where nothing left the outputs and something arrived.
    """

    samples: FloatArray
    shares: FloatArray
    stderr: FloatArray | None
    conservation_error: float


def lrp(
    study: Study,
    *,
    error: Literal["output", "weight"] = "output",
    explained: LossFunction | None = None,
    rules: Rules = ATTN_LRP,
) -> CostTable:
    """Estimate the table from one backward pass over the data, and one forward pass for each format.

    Args:
        study: Model, data, layers and formats. Rows that belong to one sample must be consecutive.
        error: Whether rounding is weighed by the layer's ``output`` or by its ``weight`` (without the passes).
        explained: (model, batch) → (B,) numbers to trace back, such as the score of the right class; the losses of
            the study when absent.
        rules: How relevance passes functions.

    Returns:
        (L, F) with standard errors over samples.

    Raises:
        InvalidInputError: As in :func:`relevance`, or the error is of an unknown kind.
    """
    require_layers_only(study, "lrp")
    if error not in _ERRORS:
        raise InvalidInputError(Fault("/error", unknown(error, _ERRORS, "error")))
    found = relevance(study, explained=explained, rules=rules)
    by_output = error == "output"
    errors = output_errors(study, explained or study.loss_fn) if by_output else weight_errors(study)[None]
    # (N or 1, L, F)
    values, stderr = mean_and_error(found.samples[:, :, None] * errors)
    meaning = (
        f"share of the absolute relevance at the layer times the relative squared {error} error of the layer, mean "
        f"over samples; relevance conserved up to {found.conservation_error:.3g} of itself"
    )
    return table(values, stderr, meaning)


def relevance(study: Study, *, explained: LossFunction | None = None, rules: Rules = ATTN_LRP) -> Relevance:
    """Share of each layer in the relevance, from one forward and one backward pass.

    Args:
        study: Model, data and layers. Rows that belong to one sample must be consecutive.
        explained: (model, batch) → (B,) numbers to trace back; the losses of the study when absent.
        rules: How relevance passes functions.

    Returns:
        The shares, and how well relevance was conserved.

    Raises:
        InvalidInputError: A layer takes no part or gives NaN, samples cannot be told apart, or the explained numbers
            do not come from the model.

    Example:
        >>> from quantize import parse_format
        >>> from sensitivity import discover
        >>> model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
        >>> _ = nn.init.constant_(model[0].weight, 1), nn.init.constant_(model[2].weight, 1)
        >>> def score(model, batch):
        ...     return model(batch).sum(1)
        >>> layers, formats = discover(model), (parse_format("int4"),)
        >>> found = relevance(Study(model.eval(), [torch.ones(3, 2)], score, layers, formats, 0, lambda *_: None))
        >>> found.shares.round(3).tolist(), round(found.conservation_error, 3)
        ([0.5, 0.5], 0.0)
    """
    keys = batch_keys(study.batches)
    measure = partial(_absolute_relevance, explained=explained or study.loss_fn, rules=rules)
    rows = np.concatenate(study.engine(study, "relevance", keys, measure))  # (N, L + 2)
    absolute, left, arrived = rows[:, :-2], rows[:, -2], rows[:, -1]
    totals = absolute.sum(axis=1, keepdims=True)
    samples = np.divide(absolute, totals, out=np.zeros_like(absolute), where=totals != 0)
    lost, whole = np.abs(arrived - left).sum(), np.abs(left).sum()
    shares, stderr = mean_and_error(samples)
    return Relevance(samples, shares, stderr, float(lost / whole if whole else np.inf if lost else 0.0))


def _absolute_relevance(study: Study, key: Key, *, explained: LossFunction, rules: Rules) -> FloatArray:
    # (B, L + 2): Σ |R| of every layer, then ΣR of what the model returns, then ΣR of what it was given
    index = int(key[0])
    batch = study.batches[index]
    with requiring_grad(study.model, ()), propagating(study.model, study.layers, rules) as trace:
        values = explained(study.model, batch)
        count = sample_count(values, index)
        _require_part(study, trace, values)
        columns = _columns(study, trace, values, torch.ones(count))
        if index == 0 and count > 1:
            _require_separate(study, trace, values, columns)
    if index == 0:
        _require_same(study.model, batch, explained, values.detach())
    return columns


def _columns(study: Study, trace: Trace, values: Tensor, weights: Tensor) -> FloatArray:
    tensors = [tensor for _, tensor in trace.outputs] + trace.results + trace.sources
    start = (values * weights.to(values)).sum()
    gradients = torch.autograd.grad(start, tensors, retain_graph=True, materialize_grads=True)
    relevances = [
        torch.where(gradient == 0, 0, tensor.detach() * gradient)  # also where a masked score is infinite
        for tensor, gradient in zip(tensors, gradients, strict=True)
    ]
    columns = np.zeros((len(values), len(study.layers) + 2))
    uses, results = len(trace.outputs), len(trace.outputs) + len(trace.results)
    for (layer, _), part in zip(trace.outputs, relevances[:uses], strict=True):
        rows = by_sample(part.abs().double(), len(values), study.layers[layer].name)
        columns[:, layer] += rows.flatten(1).sum(1).cpu().numpy()
    for part in relevances[uses:results]:
        columns[:, -2] += _ends(part.double(), len(values))
    for part in relevances[results:]:
        columns[:, -1] += _ends(part.double(), len(values))
    return _finite(columns, study)


def _ends(part: Tensor, count: int) -> FloatArray | float:
    # What samples have in common, such as a table of positions, counts the same for each.
    if part.dim() == 0 or part.shape[0] % count:
        return float(part.sum()) / count
    sums: FloatArray = part.reshape(count, -1).sum(1).cpu().numpy()
    return sums


def _require_part(study: Study, trace: Trace, values: Tensor) -> None:
    if not trace.sources:
        detail = "never calls the studied model itself (only parts of it?); relevance starts at what the model returns"
        raise InvalidInputError(Fault("/loss_fn", detail))
    used = {index for index, _ in trace.outputs}
    require_use(study.layers, [index in used for index in range(len(study.layers))])
    if not values.requires_grad:
        detail = "the losses do not depend on what the model returns; were they detached?"
        raise InvalidInputError(Fault("/loss_fn", detail))


def _require_separate(study: Study, trace: Trace, values: Tensor, columns: FloatArray) -> None:
    # If no loss looks at another sample's rows, weighting the losses weights the relevance of their rows alike.
    weights = 1 + torch.rand(len(values), generator=torch.Generator().manual_seed(0))  # (B,)
    plain = columns[:, :-2]
    weighted = _columns(study, trace, values, weights)[:, :-2]
    expected = plain * weights.to(values).double().cpu().numpy()[:, None]
    rtol = _tolerance(values)
    if not np.allclose(weighted, expected, rtol=rtol, atol=rtol / 10 * float(plain.max())):
        detail = (
            "the loss of one sample depends on the rows of another, or the rows of a sample are not consecutive "
            "(sequence before batch); give batches of one sample"
        )
        raise InvalidInputError(Fault("/loss_fn", detail))


def _require_same(model: nn.Module, batch: Batch, explained: LossFunction, values: Tensor) -> None:
    with torch.no_grad():
        plain = explained(model, batch)
    rtol = _tolerance(values)
    if not torch.allclose(plain, values, rtol=rtol, atol=rtol / 10 * float(plain.abs().max())):
        worst = float((plain - values).abs().max())
        detail = (
            f"gives losses that differ by {worst:g} under the relevance rules; does it change activations in place "
            "and use them under their old name?"
        )
        raise InvalidInputError(Fault("/model", detail))


def _tolerance(values: Tensor) -> float:
    return max(1e-3, 16 * torch.finfo(values.dtype).eps)


def _finite(columns: FloatArray, study: Study) -> FloatArray:
    bad = np.flatnonzero(~np.isfinite(columns[:, :-2]).all(axis=0))
    if bad.size:
        detail = "its relevance is NaN or infinite on a calibration batch"
        faults = (Fault(pointer(("layers", study.layers[index].name)), detail) for index in bad)
        raise InvalidInputError(*faults)
    return columns
