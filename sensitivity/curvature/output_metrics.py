r"""How far apart two outputs of a model are, exactly and to second order.

A metric is a distance d(z, z + δ) per row of outputs whose second-order expansion is ½ δᵀHδ. H is what a Gauss-Newton
matrix JᵀHJ has in its middle; it is given through a root S with SSᵀ = H, and labels that the model itself would draw
have the Fisher information H.

=================  =============================  ==================  ===========================================
name               d(z, z′)                       H                   labels
=================  =============================  ==================  ===========================================
``softmax_kl``     KL(softmax z ‖ softmax z′)     diag(p) − ppᵀ       y ~ softmax z, loss −log softmax(z)_y
``squared_error``  ½ ‖z − z′‖²                    I                   y ~ N(z, I), loss ½ ‖z − y‖²
=================  =============================  ==================  ===========================================

Outputs are (B, …, C): a row is the last axis, and a sample's number is the mean over its rows.

Source: J. Martens, "New insights and perspectives on the natural gradient method", JMLR 2020, sections 8 and 9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Generator, Tensor, nn

from allocator import Fault, InvalidInputError
from allocator.contract.registry import Registry
from sensitivity.study.calibration import Batch

#: (model, batch) → (B, …, C) outputs, such as logits.
OutputFunction: TypeAlias = Callable[[nn.Module, Batch], Tensor]

#: KL divergence from which on a language model is of no use: its perplexity is that of the original times e or more.
TOLERABLE_NATS = 1.0


@dataclass(frozen=True)
class OutputMetric:
    """A distance between outputs.

    Attributes:
        name: As it is asked for.
        unit: What the number is, for the meaning of a table.
        distance: (z, z′), (B, …, C) each → (B, …) distances of rows.
        quadratic: (z, δ) → (B, …) values of ½ δᵀHδ.
        root: (z, u) → (B, …, C), S u.
        label_loss: (z, generator) → (B, …) losses of labels that the model draws; differentiable in z.
    """

    name: str
    unit: str
    distance: Callable[[Tensor, Tensor], Tensor]
    quadratic: Callable[[Tensor, Tensor], Tensor]
    root: Callable[[Tensor, Tensor], Tensor]
    label_loss: Callable[[Tensor, Generator], Tensor]


def sample_means(rows: Tensor) -> Tensor:
    """Average the rows of each sample.

    Args:
        rows: (B, …).

    Returns:
        (B,).
    """
    return rows.flatten(1).mean(1) if rows.dim() > 1 else rows


def checked_outputs(outputs: Tensor) -> Tensor:
    """Refuse outputs that are not rows of numbers.

    Args:
        outputs: What the user's function gave.

    Returns:
        The same.

    Raises:
        InvalidInputError: It is not a floating-point tensor of shape (B, …, C) with something in it.
    """
    if not isinstance(outputs, Tensor):
        came = type(outputs).__name__
    elif outputs.dim() < 2 or not outputs.numel() or not outputs.is_floating_point():
        came = f"a {outputs.dtype} tensor of shape {tuple(outputs.shape)}"
    else:
        return outputs
    detail = f"expected outputs of shape (B, …, C), got {came}; return the logits or the embeddings"
    raise InvalidInputError(Fault("/outputs", detail))


def _kl(first: Tensor, second: Tensor) -> Tensor:
    log_p, log_q = first.double().log_softmax(-1), second.double().log_softmax(-1)
    p = log_p.exp()
    # A masked logit is −inf in both: nothing times the difference of two infinities is nothing.
    return torch.where(p == 0, 0.0, p * (log_p - log_q)).sum(-1)


def _kl_quadratic(outputs: Tensor, change: Tensor) -> Tensor:
    p = outputs.softmax(-1)
    change = torch.where(p == 0, 0.0, change)
    centred = change - (p * change).sum(-1, keepdim=True)
    return 0.5 * (p * centred.square()).sum(-1)


def _kl_root(outputs: Tensor, signs: Tensor) -> Tensor:
    p = outputs.softmax(-1)
    root = p.sqrt()
    return root * signs - p * (root * signs).sum(-1, keepdim=True)


def _categorical(outputs: Tensor, generator: Generator) -> Tensor:
    log_p = outputs.log_softmax(-1)
    rows = log_p.detach().exp().flatten(0, -2).cpu()
    labels = torch.multinomial(rows, 1, generator=generator).to(outputs.device)
    return -log_p.gather(-1, labels.reshape(*outputs.shape[:-1], 1))[..., 0]


def _squared(first: Tensor, second: Tensor) -> Tensor:
    return 0.5 * (first.double() - second.double()).square().sum(-1)


def _squared_quadratic(outputs: Tensor, change: Tensor) -> Tensor:
    del outputs
    return 0.5 * change.square().sum(-1)


def _squared_root(outputs: Tensor, signs: Tensor) -> Tensor:
    del outputs
    return signs


def _gaussian(outputs: Tensor, generator: Generator) -> Tensor:
    noise = torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype).to(outputs.device)
    return 0.5 * (outputs - (outputs.detach() + noise)).square().sum(-1)


METRICS = Registry[OutputMetric](
    "metric",
    {
        "softmax_kl": OutputMetric(
            "softmax_kl", "KL divergence of the softmax, nats", _kl, _kl_quadratic, _kl_root, _categorical
        ),
        "squared_error": OutputMetric(
            "squared_error", "half the squared error", _squared, _squared_quadratic, _squared_root, _gaussian
        ),
    },
)
