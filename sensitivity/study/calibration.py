"""Calibration batches: counted, hashed, and checked to give the same numbers twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from sensitivity.study.finite import where_not_finite

#: Whatever the loss function takes: a tensor, a mapping or a sequence of tensors.
Batch: TypeAlias = Any
#: (model, batch) → (B,) losses, one per sample.
LossFunction: TypeAlias = Callable[[nn.Module, Batch], Tensor]


def collect(batches: Iterable[Batch]) -> tuple[Batch, ...]:
    """Keep the batches, after making sure that a second pass gives the same ones.

    Args:
        batches: A sequence, or a loader that can be iterated more than once.

    Returns:
        The batches.

    Raises:
        InvalidInputError: There are none, or a second pass differs.
    """
    kept = tuple(batches)
    if not kept:
        raise InvalidInputError(Fault("/batches", "expected at least one calibration batch, got none"))
    # Only of lists and tuples is it known that they give the same twice; a sequence may augment what it gives.
    again = kept if isinstance(batches, (list, tuple)) else tuple(batches)
    if digest(again) != digest(kept):
        detail = "two passes over the batches differ; turn off shuffling and augmentation, or pass a list"
        raise InvalidInputError(Fault("/batches", detail))
    return kept


def digest(value: Batch) -> str:
    """SHA-256 over the content of nested tensors, numbers and texts.

    Args:
        value: Batches.

    Returns:
        64 hexadecimal digits.

    Raises:
        InvalidInputError: A batch holds something that cannot be hashed.

    Example:
        >>> digest([torch.ones(2), {"a": 1}])[:8]
        'acd9c078'
    """
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def check_losses(model: nn.Module, batches: Sequence[Batch], loss_fn: LossFunction) -> None:
    """Evaluate every batch once, the first twice, and refuse what no table can be made from.

    Args:
        loss_fn: Losses of a batch, one per sample.

    Raises:
        InvalidInputError: A batch has no samples, its losses are not finite (names the batch and the layer) or not one
            number per sample, or those of the first batch differ from one time to the next.
    """
    with torch.no_grad():
        for index, batch in enumerate(batches):
            losses = _losses_of(model, batch, loss_fn, index)
            if not torch.isfinite(losses).all():
                place = where_not_finite(model, partial(loss_fn, model, batch))
                detail = f"the loss is NaN or infinite: {place}"
                raise InvalidInputError(Fault(pointer(("batches", index)), detail))
            if index == 0:
                _require_equal(losses, sample_losses(model, batch, loss_fn))


def _losses_of(model: nn.Module, batch: Batch, loss_fn: LossFunction, index: int) -> Tensor:
    try:
        return sample_losses(model, batch, loss_fn)
    except InvalidInputError as error:
        where = pointer(("batches", index))
        faults = (
            Fault(where if fault.pointer == "/batches" else fault.pointer, fault.detail)
            for fault in error.faults
        )
        raise InvalidInputError(*faults) from error


def _require_equal(first: Tensor, second: Tensor) -> None:
    if not torch.equal(first, second):
        worst = (first - second).abs().max().item()
        detail = (
            f"the same batch gave losses that differ by {worst:g}; call model.eval() to turn off dropout and "
            "batch statistics, and seed whatever else is random"
        )
        raise InvalidInputError(Fault("/model", detail))


def sample_losses(model: nn.Module, batch: Batch, loss_fn: LossFunction) -> Tensor:
    """Losses of a batch, one per sample.

    Args:
        loss_fn: Losses of a batch, one per sample.

    Returns:
        (B,), B at least 1.

    Raises:
        InvalidInputError: The function gives something else.
    """
    losses = loss_fn(model, batch)
    if not isinstance(losses, Tensor) or losses.dim() != 1:
        came = (
            f"a tensor of shape {tuple(losses.shape)}"
            if isinstance(losses, Tensor)
            else type(losses).__name__
        )
        detail = f"expected one loss per sample, a tensor of shape (B,), got {came}; use reduction='none'"
        raise InvalidInputError(Fault("/loss_fn", detail))
    if not len(losses):
        raise InvalidInputError(Fault("/batches", "a batch gives no losses; drop batches without samples"))
    return losses


def _feed(sha: Any, value: Batch) -> None:  # noqa: ANN401
    # Every part is written with its kind and its length, so that no two different values are written alike.
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        _write(
            sha,
            f"tensor {plain.dtype} {tuple(plain.shape)}",
            plain.flatten().view(torch.uint8).numpy().tobytes(),
        )
    elif isinstance(value, Mapping):
        _write(sha, f"mapping {len(value)}")
        for key in sorted(value, key=repr):
            _feed(sha, key)
            _feed(sha, value[key])
    elif isinstance(value, (list, tuple)):
        _write(sha, f"sequence {len(value)}")
        for item in value:
            _feed(sha, item)
    elif isinstance(value, (str, bytes, int, float, bool, type(None))):
        _write(sha, type(value).__name__, repr(value).encode())
    else:
        detail = f"cannot hash a {type(value).__name__}; use tensors, numbers, texts, lists and dicts"
        raise InvalidInputError(Fault("/batches", detail))


def _write(sha: Any, kind: str, content: bytes = b"") -> None:  # noqa: ANN401
    sha.update(f"{kind} {len(content)}\n".encode() + content)
