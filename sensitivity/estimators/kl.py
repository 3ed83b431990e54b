r"""Measured divergence between what the model predicts with and without one layer rounded.

.. math:: c_{l,f} = \frac{1}{N} \sum_{i=1}^{N}
          \operatorname{KL}\big(\operatorname{softmax} z_i \,\Vert\, \operatorname{softmax} z_i^{(l,f)}\big)

z_i are the logits of the original model and :math:`z_i^{(l,f)}` those with only layer l in format f. Needs no labels. A
sample with several rows of logits (tokens, pixels) counts with their mean.

Source: T. Zhao et al., "MixDQ", ECCV 2024, for measuring one layer at a time; ModelOpt's ``kl_div`` score.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from allocator import CostTable
from sensitivity.curvature.output_metrics import (
    METRICS,
    TOLERABLE_NATS,
    OutputFunction,
    checked_outputs,
    sample_means,
)
from sensitivity.estimators.measured import measured
from sensitivity.study.calibration import Batch
from sensitivity.study.study import Study


def kl(study: Study, *, logits: OutputFunction, together: int = 1) -> CostTable:
    """Measure the table, one forward pass from the changed layer on per entry and batch.

    Args:
        logits: (model, batch) → (B, …, C).
        together: Formats of a layer that go through the model at once; see :func:`measured`.

    Returns:
        (L, F) in nats per sample, with standard errors over samples.

    Raises:
        InvalidInputError: The logits are not of that shape, or a divergence is not finite (names the layer and the
            format).

    Example:
        >>> import torch
        >>> from sensitivity import profile_model
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
        >>> loss = lambda model, batch: model(batch).square().sum(1)
        >>> tables = {"kl": partial(kl, logits=lambda model, batch: model(batch))}
        >>> profile = profile_model(model, [torch.randn(4, 8)], loss, ["int2", "int4", "fp32"], tables)
        >>> [round(value, 5) for value in profile.costs["kl"].values[0]]
        [0.00184, 4e-05, 0.0]
    """
    meaning = "mean KL(original ‖ quantized), nats per sample"
    outputs = partial(_logits, logits)
    return measured(
        study,
        name="kl",
        outputs=outputs,
        distance=_divergence,
        meaning=meaning,
        together=together,
        tolerable=TOLERABLE_NATS,
    )


def _logits(logits: OutputFunction, model: nn.Module, batch: Batch) -> Tensor:
    return checked_outputs(logits(model, batch))


def _divergence(original: Tensor, changed: Tensor) -> Tensor:
    return sample_means(METRICS["softmax_kl"].distance(original, changed))
