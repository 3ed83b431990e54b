r"""Empirical Fisher information weighted squared rounding error.

.. math:: c_{l,f} = \frac{1}{N} \sum_{i=1}^{N} \sum_{jk} \Big(\frac{\partial \ell_i}{\partial W_{l,jk}}\Big)^2
                    \big(Q_f(W_l) - W_l\big)_{jk}^2

Per-sample gradients come without a loop over samples: one backward pass through the sum of the losses gives the
gradient of every layer output, and a sample's weight gradient is the product of its own rows of those with its own
rows of the layer's inputs. That is only true if losses do not mix samples, which is checked.

Source: H. Guo et al., "LQ-LoRA", ICLR 2024 (there summed over samples, here averaged); S. Kim et al., "SqueezeLLM",
ICML 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from allocator import CostTable, Fault, InvalidInputError
from allocator.problem import FloatArray
from sensitivity.grad import requiring_grad
from sensitivity.layers import LayerRef
from sensitivity.study import Study, mean_and_error, rounded, table

_MEANING = (
    "squared per-sample gradient of the calibration loss (labels of the data), averaged over samples, times the "
    "squared rounding error, summed over the weights of the layer"
)


def fisher(study: Study) -> CostTable:
    """Estimate the table from one backward pass over the data.

    Args:
        study: Model, data, layers and formats. Rows that belong to one sample must be consecutive: a batch of B
            losses may run through the model as B · m rows.

    Returns:
        (L, F) with standard errors over samples.

    Raises:
        InvalidInputError: Losses mix samples, or a layer's rows cannot be told apart by sample.
    """
    weights = [layer.weight for layer in study.layers]
    squared = [_squared_errors(layer, study) for layer in study.layers]
    samples: list[FloatArray] = []
    with requiring_grad(study.model, weights), recording(study.layers) as recorded:
        for index, batch in enumerate(study.batches):
            for record in recorded:
                record.calls.clear()
            losses = study.loss_fn(study.model, batch)  # (B,)
            outputs = [output for record in recorded for _, output in record.calls]
            if index == 0 and len(losses) > 1:
                _require_separate(losses, recorded, outputs)
            gradients = iter(torch.autograd.grad(losses.sum(), outputs, materialize_grads=True))
            with torch.no_grad():
                rows = [
                    _weighted_squares(record, [next(gradients) for _ in record.calls], error, len(losses))
                    for record, error in zip(recorded, squared, strict=True)
                ]
            samples.append(torch.stack(rows, dim=1).double().cpu().numpy())  # (B, L, F)
            study.progress("fisher", index + 1, len(study.batches))
    values, errors = mean_and_error(np.concatenate(samples))
    return table(values, errors, _MEANING)


@dataclass(eq=False)
class Record:
    """Inputs and outputs of every call of a layer during one forward pass.

    Attributes:
        layer: The layer.
        calls: (module input, module output) pairs; inputs are detached.
    """

    layer: LayerRef
    calls: list[tuple[Tensor, Tensor]] = field(default_factory=list)


@contextmanager
def recording(layers: tuple[LayerRef, ...]) -> Iterator[list[Record]]:
    """Record what goes into and comes out of layers.

    Args:
        layers: The layers.

    Yields:
        One record per layer; the hooks are gone at the end.
    """
    records = [Record(layer) for layer in layers]
    handles = []
    try:
        for record in records:
            for module in record.layer.modules:

                def keep(
                    _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, record: Record = record
                ) -> None:
                    record.calls.append((inputs[0].detach(), output))

                handles.append(module.register_forward_hook(keep))
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _weighted_squares(record: Record, gradients: list[Tensor], error: Tensor, count: int) -> Tensor:
    if not record.calls:
        detail = f"layer {record.layer.name!r} takes no part in the loss; exclude it"
        raise InvalidInputError(Fault("/layers", detail))
    module = record.layer.modules[0]
    pairs = [
        (_by_sample(record, inputs, count), _by_sample(record, gradient, count))
        for (inputs, _), gradient in zip(record.calls, gradients, strict=True)
    ]
    if isinstance(module, nn.Embedding):
        return _embedding(pairs, error, count)
    if isinstance(module, nn.Linear):
        return _linear(pairs, error)
    return _convolution(module, pairs, error)


def _by_sample(record: Record, rows: Tensor, count: int) -> Tensor:
    # (B · m, …) → (B, m, …)
    if rows.shape[0] % count:
        detail = (
            f"layer {record.layer.name!r} sees {rows.shape[0]} rows for {count} losses; the rows of a sample must be "
            "consecutive and equally many"
        )
        raise InvalidInputError(Fault("/loss_fn", detail))
    return rows.reshape(count, rows.shape[0] // count, *rows.shape[1:])


def _linear(pairs: list[tuple[Tensor, Tensor]], error: Tensor) -> Tensor:
    gradient: Tensor | None = None
    for inputs, outputs in pairs:
        flat_in = inputs.flatten(1, -2)  # (B, T, in)
        flat_out = outputs.flatten(1, -2)  # (B, T, out)
        one = flat_out.transpose(1, 2) @ flat_in  # (B, out, in)
        gradient = one if gradient is None else gradient + one
    assert gradient is not None
    return gradient.square_().flatten(1) @ error.flatten(1).T  # (B, F)


def _embedding(pairs: list[tuple[Tensor, Tensor]], error: Tensor, count: int) -> Tensor:
    # Only rows of tokens that occur have a gradient, so (sample, token) pairs stand in for the dense matrix.
    entries, width = error.shape[1:]
    owner = [torch.arange(count).repeat_interleave(inputs[0].numel()) for inputs, _ in pairs]
    keys = torch.cat(
        [who * entries + inputs.flatten() for who, (inputs, _) in zip(owner, pairs, strict=True)]
    )
    rows = torch.cat([outputs.reshape(-1, width) for _, outputs in pairs])
    kept, position = torch.unique(keys, return_inverse=True)
    gradient = torch.zeros(len(kept), width, dtype=rows.dtype).index_add_(0, position, rows)  # (K, D)
    products = torch.einsum("kd,fkd->kf", gradient.square_(), error[:, kept % entries])  # (K, F)
    return torch.zeros(count, len(error), dtype=rows.dtype).index_add_(0, kept // entries, products)


def _convolution(module: nn.Module, pairs: list[tuple[Tensor, Tensor]], error: Tensor) -> Tensor:
    # torch's own weight gradient of the convolution, vectorised over samples.
    def along(weight: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
        made: Tensor = torch.func.functional_call(module, {"weight": weight}, (inputs,))
        return (made * outputs).sum()

    per_sample = torch.vmap(torch.func.grad(along), (None, 0, 0))
    weight = _weight(module)
    gradient = torch.stack([per_sample(weight, *pair) for pair in pairs]).sum(0)  # (B, out, in, …)
    products: Tensor = gradient.square_().flatten(1) @ error.flatten(1).T  # (B, F)
    return products


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def _squared_errors(layer: LayerRef, study: Study) -> Tensor:
    weight = layer.weight.detach()
    return torch.stack([(rounded(layer, target) - weight).square() for target in study.formats])  # (F, …)


def _require_separate(losses: Tensor, recorded: list[Record], outputs: list[Tensor]) -> None:
    gradients = torch.autograd.grad(losses[0], outputs, retain_graph=True, materialize_grads=True)
    calls = iter(gradients)
    for record in recorded:
        for _ in record.calls:
            mine = _by_sample(record, next(calls), len(losses))
            if mine[1:].any():
                detail = (
                    "the loss of one sample depends on the rows of another (batch normalisation in training mode, "
                    "in-batch negatives); hold the others constant with .detach()"
                )
                raise InvalidInputError(Fault("/loss_fn", detail))
