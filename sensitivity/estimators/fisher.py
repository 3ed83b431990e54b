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
from allocator.errors import pointer
from allocator.problem import FloatArray
from sensitivity.grad import requiring_grad
from sensitivity.layers import LayerRef
from sensitivity.study import Study, mean_and_error, require_layers_only, rounded, table

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
    require_layers_only(study, "fisher")
    weights = [layer.weight for layer in study.layers]
    squared = [_squared_errors(layer, study) for layer in study.layers]
    samples: list[FloatArray] = []
    unchecked = True
    with requiring_grad(study.model, weights), recording(study.layers) as recorded:
        for index, batch in enumerate(study.batches):
            for record in recorded:
                record.calls.clear()
            losses = study.loss_fn(study.model, batch)  # (B,)
            _require_part(recorded, losses)
            if unchecked and len(losses) > 1:
                _require_separate(losses, recorded)
                unchecked = False
            gradients = _output_gradients(losses.sum(), recorded)
            with torch.no_grad():
                rows = [
                    _weighted_squares(*item, len(losses))
                    for item in zip(recorded, gradients, squared, strict=True)
                ]
            samples.append(_finite(torch.stack(rows, dim=1), study.layers))  # (B, L, F)
            study.progress("fisher", index + 1, len(study.batches))
    values, errors = mean_and_error(np.concatenate(samples))
    return table(values, errors, _MEANING)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module during a forward pass.

    Attributes:
        module: The module.
        inputs: What went in, detached.
        output: What came out.
    """

    module: nn.Module
    inputs: Tensor
    output: Tensor


@dataclass(frozen=True, eq=False)
class Record:
    """Every call of a layer's modules during one forward pass.

    Attributes:
        layer: The layer.
        calls: In the order of execution.
    """

    layer: LayerRef
    calls: list[Call] = field(default_factory=list)


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
                    module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, record: Record = record
                ) -> Tensor:
                    record.calls.append(Call(module, inputs[0].detach(), output))
                    return output.clone()  # an activation that works in place must not reach what is kept

                handles.append(module.register_forward_hook(keep))
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _output_gradients(loss: Tensor, recorded: list[Record]) -> list[list[Tensor]]:
    outputs = [call.output for record in recorded for call in record.calls]
    gradients = iter(torch.autograd.grad(loss, outputs, retain_graph=True, materialize_grads=True))
    return [[next(gradients) for _ in record.calls] for record in recorded]


def _require_part(recorded: list[Record], losses: Tensor) -> None:
    idle = [record.layer.name for record in recorded if not record.calls]
    if idle:
        faults = (Fault(pointer(("layers", name)), "takes no part in the loss; exclude it") for name in idle)
        raise InvalidInputError(*faults)
    if not losses.requires_grad:
        raise InvalidInputError(
            Fault("/loss_fn", "the losses do not depend on any weight; were they detached?")
        )


def _require_separate(losses: Tensor, recorded: list[Record]) -> None:
    # If no loss looks at another sample's rows, weighting the losses weights the rows of their samples alike.
    weights = 1 + torch.rand(len(losses), generator=torch.Generator().manual_seed(0)).to(losses)  # (B,)
    plain = _output_gradients(losses.sum(), recorded)
    weighted = _output_gradients((weights * losses).sum(), recorded)
    for record, one, other in zip(recorded, plain, weighted, strict=True):
        for first, second in zip(one, other, strict=True):
            mine = _by_sample(record, first, len(losses))
            expected = mine * weights.reshape(-1, *[1] * (mine.dim() - 1))
            if not torch.allclose(
                _by_sample(record, second, len(losses)), expected, rtol=1e-3, atol=_noise(mine)
            ):
                detail = (
                    "the loss of one sample depends on the rows of another (batch normalisation in training mode, "
                    "in-batch negatives); hold the others constant with .detach()"
                )
                raise InvalidInputError(Fault("/loss_fn", detail))


def _noise(gradient: Tensor) -> float:
    return 1e-4 * float(gradient.abs().max())


def _finite(rows: Tensor, layers: tuple[LayerRef, ...]) -> FloatArray:
    samples: FloatArray = rows.double().cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=(0, 2)))
    if bad.size:
        detail = "its gradient is NaN or infinite on a calibration batch"
        raise InvalidInputError(*(Fault(pointer(("layers", layers[index].name)), detail) for index in bad))
    return samples


def _weighted_squares(record: Record, gradients: list[Tensor], error: Tensor, count: int) -> Tensor:
    pairs = [
        (call.module, _by_sample(record, call.inputs, count), _by_sample(record, gradient, count))
        for call, gradient in zip(record.calls, gradients, strict=True)
    ]
    if all(isinstance(module, nn.Embedding) for module, _, _ in pairs):
        return _sparse_squares([(inputs, outputs) for _, inputs, outputs in pairs], error, count)
    dense = [_sample_gradient(*pair) for pair in pairs]  # (B, out, in, …) each
    total = dense[0]
    for gradient in dense[1:]:
        total = total + gradient
    products: Tensor = total.square().flatten(1) @ error.flatten(1).T  # (B, F)
    return products


def _by_sample(record: Record, rows: Tensor, count: int) -> Tensor:
    # (B · m, …) → (B, m, …)
    if rows.shape[0] % count:
        detail = (
            f"layer {record.layer.name!r} sees {rows.shape[0]} rows for {count} losses; the rows of a sample must be "
            "consecutive and equally many"
        )
        raise InvalidInputError(Fault("/loss_fn", detail))
    return rows.reshape(count, rows.shape[0] // count, *rows.shape[1:])


def _sample_gradient(module: nn.Module, inputs: Tensor, outputs: Tensor) -> Tensor:
    if isinstance(module, nn.Linear):
        return outputs.flatten(1, -2).transpose(1, 2) @ inputs.flatten(1, -2)  # (B, out, T) @ (B, T, in)

    # Torch's own weight gradient of the module, vectorised over samples.
    def along(weight: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
        made: Tensor = torch.func.functional_call(module, {"weight": weight}, (inputs,))
        return (made * outputs).sum()

    weight = module.weight
    assert isinstance(weight, Tensor)
    gradient: Tensor = torch.vmap(torch.func.grad(along), (None, 0, 0))(weight.detach(), inputs, outputs)
    return gradient


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


def _squared_errors(layer: LayerRef, study: Study) -> Tensor:
    weight = layer.weight.detach()
    return torch.stack([(rounded(layer, target) - weight).square() for target in study.formats])  # (F, …)
