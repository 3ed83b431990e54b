r"""Mean Hessian trace times squared rounding error (HAWQ-V2).

.. math:: \Omega_{l,f} = \frac{\operatorname{Tr}(H_l)}{n_l} \, \lVert Q_f(W_l) - W_l \rVert_2^2

H_l is the diagonal block of the Hessian of the mean loss for layer l and n_l its number of weights: the *mean* trace
times the *un-normalised* sum of squares. Hutchinson's estimator draws Rademacher vectors v for all layers at once;
one Hessian-vector product then gives :math:`v_l^\top (Hv)_l` for every layer, which is unbiased for the trace of the
block because the v of other layers are independent of v_l and have mean zero.

Source: Z. Dong et al., "HAWQ-V2", NeurIPS 2020, eq. 2.11; M. F. Hutchinson (1989). Traces of a model that is not at
a minimum can be negative; they are kept.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from allocator import CostTable, Fault, InvalidInputError
from allocator.problem import FloatArray
from sensitivity.calibration import Batch
from sensitivity.grad import requiring_grad
from sensitivity.layers import LayerRef
from sensitivity.study import Study, derived_seed, mean_and_error, require_layers_only, rounded, table

_MEANING = (
    "mean Hessian trace of the mean calibration loss times the squared rounding error of the layer; "
    "normalisation: trace / parameters, error summed"
)


def hessian_trace(study: Study, probes: int = 8) -> CostTable:
    """Estimate the table from a few Hessian-vector products.

    Args:
        study: Model, data, layers and formats.
        probes: Number of Hessian-vector products. They take the batches in a shuffled order, so that the standard
            error covers both the probe and the batch.

    Returns:
        (L, F); standard errors need at least two probes.

    Raises:
        InvalidInputError: ``probes`` is below one, or a Hessian-vector product is not finite.
    """
    require_layers_only(study, "hessian_trace")
    if probes < 1:
        raise InvalidInputError(Fault("/probes", f"expected at least 1 probe, got {probes}"))
    samples = np.empty((probes, len(study.layers)))
    order = np.random.default_rng(derived_seed(study.seed, "hessian_trace")).permutation(len(study.batches))
    for probe in range(probes):
        samples[probe] = _quadratic_forms(study, study.batches[order[probe % order.size]], probe)
        study.progress("hessian_trace", probe + 1, probes)
    traces, errors = mean_and_error(samples)  # (L,)
    squared = _squared_errors(study)  # (L, F)
    counts = np.array([layer.weight.numel() for layer in study.layers])
    values = (traces / counts)[:, None] * squared
    return table(values, None if errors is None else (errors / counts)[:, None] * squared, _MEANING)


def _quadratic_forms(study: Study, batch: Batch, probe: int) -> FloatArray:
    weights = [layer.weight for layer in study.layers]
    vectors = [_rademacher(layer, study.seed, probe) for layer in study.layers]
    # Fused attention kernels have no second derivative.
    with requiring_grad(study.model, weights), sdpa_kernel(SDPBackend.MATH):
        loss = study.loss_fn(study.model, batch).mean()
        gradients = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
        parts = [(gradient * vector).sum() for gradient, vector in zip(gradients, vectors, strict=True)]
        along = torch.stack(parts).sum()
        if not along.requires_grad:  # the loss is linear in every weight
            return np.zeros(len(weights))
        products = torch.autograd.grad(along, weights, materialize_grads=True)
    forms = [
        float((vector * product).sum(dtype=torch.float64))
        for vector, product in zip(vectors, products, strict=True)
    ]
    for layer, form in zip(study.layers, forms, strict=True):
        if not np.isfinite(form):
            raise InvalidInputError(Fault("/batches", f"the Hessian of layer {layer.name!r} is not finite"))
    return np.array(forms)


def _rademacher(layer: LayerRef, seed: int, probe: int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed(seed, "hessian_trace", layer.name, probe))
    signs = torch.randint(0, 2, layer.weight.shape, generator=generator, dtype=torch.int8)
    return (signs * 2 - 1).to(layer.weight)


def _squared_errors(study: Study) -> FloatArray:
    return np.array(
        [
            [
                float((rounded(layer, target) - layer.weight.detach()).square().sum(dtype=torch.float64))
                for target in study.formats
            ]
            for layer in study.layers
        ]
    )
