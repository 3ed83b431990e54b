r"""What goes into and comes out of layers, and per-sample weight gradients made of it without a loop.

One backward pass through the sum of the losses gives the gradient of every layer output. A sample's weight gradient is
the product of its own rows of those with its own rows of the layer's inputs, provided that no loss looks at another
sample's rows, which :func:`require_separate` checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from sensitivity.models.layers import LayerRef
from sensitivity.models.module_calls import on_call


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

    Yields:
        One record per layer; the hooks are gone at the end.
    """
    records = [Record(layer) for layer in layers]
    with ExitStack() as notes:
        for record in records:

            def keep(module: nn.Module, inputs: Tensor, output: Tensor, record: Record = record) -> Tensor:
                record.calls.append(Call(module, inputs.detach(), output))
                return output.clone()  # an activation that works in place must not reach what is kept

            for module in record.layer.modules:
                notes.callback(on_call(module, keep))
        yield records


def output_gradients(loss: Tensor, recorded: list[Record]) -> list[list[Tensor]]:
    """Differentiate a loss with respect to every output of every layer.

    Args:
        loss: A single number.
        recorded: From :func:`recording`.

    Returns:
        One gradient per call of each layer, like the call's output.
    """
    outputs = [call.output for record in recorded for call in record.calls]
    gradients = iter(torch.autograd.grad(loss, outputs, retain_graph=True, materialize_grads=True))
    return [[next(gradients) for _ in record.calls] for record in recorded]


def require_part(recorded: list[Record], losses: Tensor) -> None:
    """Refuse layers that did not run, and losses that are cut off from the model.

    Args:
        recorded: From :func:`recording`.
        losses: (B,) losses of the same pass.

    Raises:
        InvalidInputError: A layer took no part, or the losses have no gradient.
    """
    idle = [record.layer.name for record in recorded if not record.calls]
    if idle:
        faults = (Fault(pointer(("layers", name)), "takes no part in the loss; exclude it") for name in idle)
        raise InvalidInputError(*faults)
    if not losses.requires_grad:
        raise InvalidInputError(
            Fault("/loss_fn", "the losses do not depend on any weight; were they detached?")
        )


def require_separate(losses: Tensor, recorded: list[Record]) -> None:
    """Refuse losses that mix samples.

    Args:
        losses: (B,) losses.
        recorded: From :func:`recording`, of the same pass.

    Raises:
        InvalidInputError: The loss of one sample depends on the rows of another.
    """
    # If no loss looks at another sample's rows, weighting the losses weights the rows of their samples alike.
    weights = 1 + torch.rand(len(losses), generator=torch.Generator().manual_seed(0)).to(losses)  # (B,)
    plain = output_gradients(losses.sum(), recorded)
    weighted = output_gradients((weights * losses).sum(), recorded)
    for record, one, other in zip(recorded, plain, weighted, strict=True):
        for first, second in zip(one, other, strict=True):
            mine = by_sample(record, first, len(losses))
            expected = mine * weights.reshape(-1, *[1] * (mine.dim() - 1))
            if not torch.allclose(
                by_sample(record, second, len(losses)), expected, rtol=1e-3, atol=_noise(mine)
            ):
                detail = (
                    "the loss of one sample depends on the rows of another (batch normalisation in training mode, "
                    "in-batch negatives); hold the others constant with .detach()"
                )
                raise InvalidInputError(Fault("/loss_fn", detail))


def _noise(gradient: Tensor) -> float:
    return 1e-4 * float(gradient.abs().max())


def by_sample(record: Record, rows: Tensor, count: int) -> Tensor:
    """Split rows into those of each sample.

    Args:
        record: The layer, for the error.
        rows: (B · m, …), the rows of a sample one after the other.
        count: Number of samples B.

    Returns:
        (B, m, …).

    Raises:
        InvalidInputError: The rows do not divide by the samples.
    """
    if rows.shape[0] % count:
        detail = (
            f"layer {record.layer.name!r} sees {rows.shape[0]} rows for {count} losses; the rows of a sample must be "
            "consecutive and equally many"
        )
        raise InvalidInputError(Fault("/loss_fn", detail))
    return rows.reshape(count, rows.shape[0] // count, *rows.shape[1:])


def sample_gradient(module: nn.Module, inputs: Tensor, outputs: Tensor) -> Tensor:
    """Weight gradients of every sample.

    Args:
        module: A Linear or a convolution.
        inputs: (B, m, …) inputs of each sample.
        outputs: (B, m, …) gradients of the outputs of each sample.

    Returns:
        (B, …) gradients like the weight.
    """
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
