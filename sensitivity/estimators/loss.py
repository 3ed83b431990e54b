r"""Measured increase of the loss when one layer is rounded.

.. math:: c_{l,f} = \frac{1}{N} \sum_{i=1}^{N} \ell_i(Q_f(W_l)) - \ell_i(W_l)

Increases of single samples have either sign, and so can the mean: it is kept as it is (CalibTIP raises negative entries
to 10⁻⁶). The standard error, over samples, says which entries tell more than noise; ``kl`` usually needs fewer samples.

Source: I. Hubara et al., "CalibTIP", ICML 2021, section 3.4.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from allocator import CostTable
from sensitivity.estimators.measured import measured
from sensitivity.study.calibration import Batch, LossFunction, sample_losses
from sensitivity.study.study import Study


def loss(study: Study, *, together: int = 1) -> CostTable:
    """Measure the table, one forward pass from the changed layer on per entry and batch.

    Args:
        together: Formats of a layer that go through the model at once; see :func:`measured`.

    Returns:
        (L, F) in the unit of the loss, with standard errors over samples.

    Raises:
        InvalidInputError: The losses are not one number per sample, or not finite (names the layer and the format).
    """
    meaning = "mean increase of the calibration loss per sample"
    outputs = partial(_losses, study.loss_fn)
    return measured(
        study, name="loss", outputs=outputs, distance=_increase, meaning=meaning, together=together
    )


def _losses(loss_fn: LossFunction, model: nn.Module, batch: Batch) -> Tensor:
    return sample_losses(model, batch, loss_fn)


def _increase(original: Tensor, changed: Tensor) -> Tensor:
    return changed.double() - original.double()
