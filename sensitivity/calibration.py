"""Calibration batches: counted, hashed, and checked to give the same numbers twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError

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
    again = kept if isinstance(batches, Sequence) else tuple(batches)
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


def check_deterministic(model: nn.Module, batches: Sequence[Batch], loss_fn: LossFunction) -> None:
    """Evaluate the first batch twice and refuse a model whose losses differ.

    Args:
        model: The model.
        batches: Calibration batches.
        loss_fn: Losses of a batch, one per sample.

    Raises:
        InvalidInputError: The losses differ, are not finite, or are not one number per sample.
    """
    with torch.no_grad():
        first, second = (sample_losses(model, batches[0], loss_fn) for _ in range(2))
    if not torch.isfinite(first).all():
        raise InvalidInputError(Fault("/loss_fn", "the loss of the first batch is NaN or infinite"))
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
        model: The model.
        batch: A calibration batch.
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
