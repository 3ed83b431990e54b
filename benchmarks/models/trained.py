"""A trained model, with what is needed to study it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from sensitivity.study.calibration import Batch, LossFunction


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model and its data.

    Attributes:
        name: For people.
        model: In evaluation mode.
        calibration: Batches that it was trained on, for profiles.
        held_out: Batches that it was not trained on, for what is reported.
        loss: (model, batch) → (B,) losses.
        logits: (model, batch) → (B, …, classes).
    """

    name: str
    model: nn.Module
    calibration: tuple[Batch, ...]
    held_out: tuple[Batch, ...]
    loss: LossFunction
    logits: Callable[[nn.Module, Batch], Tensor]


def kl_divergence(original: Tensor, changed: Tensor) -> Tensor:
    r"""How far predictions moved.

    .. math:: \operatorname{KL}(p \,\Vert\, q) = \sum_c p_c \, (\log p_c - \log q_c)

    Args:
        original: (B, …, classes) logits of p.
        changed: (B, …, classes) logits of q.

    Returns:
        (B,) nats, averaged over the positions of a sample.

    Example:
        >>> import torch
        >>> kl_divergence(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log())  # ½·log(½/¾) + ½·log(½/¼)
        tensor([0.1438], dtype=torch.float64)
    """
    # In single precision, what is left of the difference would be noise where predictions hardly move.
    before, after = original.double().log_softmax(-1), changed.double().log_softmax(-1)
    gap = (before.exp() * (before - after)).sum(-1)  # (B, …)
    return gap.flatten(1).mean(1) if gap.dim() > 1 else gap
