"""Batches and samples: how many there are, and which rows of an activation belong to which."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from sensitivity.models.layers import LayerRef
from sensitivity.study.calibration import Batch
from sensitivity.study.tasks import Key


def batch_keys(batches: Sequence[Batch]) -> list[Key]:
    """Cut the work on calibration data into one piece per batch.

    Returns:
        Their indices, as keys.

    Raises:
        InvalidInputError: There are none.

    Example:
        >>> batch_keys(["first", "second"])
        [('0',), ('1',)]
    """
    if not batches:
        raise InvalidInputError(Fault("/batches", "expected at least one calibration batch, got none"))
    return [(str(index),) for index in range(len(batches))]


def sample_count(values: object, batch: int) -> int:
    """Number of samples of a batch: one per loss.

    Args:
        values: What the loss function returned; expected is a tensor of shape (B,).
        batch: Index of the batch.

    Returns:
        B, at least 1.

    Raises:
        InvalidInputError: There is not one number per sample, or there is none.

    Example:
        >>> import torch
        >>> sample_count(torch.zeros(3), batch=0)
        3
    """
    if not isinstance(values, Tensor) or values.dim() != 1:
        came = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        detail = f"expected one number per sample, a tensor of shape (B,), got {came}; use reduction='none'"
        raise InvalidInputError(Fault("/loss_fn", detail))
    if not len(values):
        raise InvalidInputError(Fault(pointer(("batches", batch)), "holds no samples; leave it out"))
    return len(values)


def require_use(layers: Sequence[LayerRef], used: Sequence[bool]) -> None:
    """Refuse layers that the loss does not look at.

    Args:
        layers: L layers.
        used: (L,) whether the weight of each was used.

    Raises:
        InvalidInputError: Some were not; names each.
    """
    idle = [layer.name for layer, seen in zip(layers, used, strict=True) if not seen]
    if idle:
        faults = (Fault(pointer(("layers", name)), "takes no part in the loss; exclude it") for name in idle)
        raise InvalidInputError(*faults)


def by_sample(rows: Tensor, count: int, layer: str) -> Tensor:
    """Give every sample its own rows.

    Args:
        rows: (B · m, …), the rows of a sample consecutive.
        count: B.
        layer: The layer that the rows come from.

    Returns:
        (B, m, …)

    Raises:
        InvalidInputError: The rows do not divide into B equal parts; names the layer.

    Example:
        >>> import torch
        >>> by_sample(torch.zeros(6, 5), 3, "stem").shape
        torch.Size([3, 2, 5])
    """
    if rows.dim() == 0 or rows.shape[0] % count:
        seen = rows.shape[0] if rows.dim() else 0
        detail = (
            f"sees {seen} rows for {count} losses, so that they cannot be told apart by sample; exclude it, or give "
            "batches of one sample"
        )
        raise InvalidInputError(Fault(pointer(("layers", layer)), detail))
    return rows.reshape(count, rows.shape[0] // count, *rows.shape[1:])
