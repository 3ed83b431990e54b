r"""Second-order change of the outputs, exact for each entry.

.. math:: c_{l,f} = \frac{1}{2N} \sum_{i=1}^{N} \delta_i^\top H_i \, \delta_i,
          \qquad \delta_i = J_{i,l} \operatorname{vec}(Q_f(W_l) - W_l)

δ_i is how the outputs of sample i move, to first order, when layer l is rounded: one forward-mode derivative per entry.
H_i is the metric of the outputs (:mod:`sensitivity.curvature.output_metrics`), so that the table approximates the
measured one:
``softmax_kl`` the table ``kl``, and ``squared_error`` half the squared distance of the outputs. Unlike a trace it looks
at the very perturbation that rounding makes, cross terms between weights included, and it has no noise of probes.

Source: N. Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent", Neural Computation
2002; J. Martens, "New insights and perspectives on the natural gradient method", JMLR 2020, section 9.
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from allocator import CostTable, Fault, InvalidInputError
from allocator.knapsack.problem import FloatArray
from sensitivity.curvature.output_metrics import (
    METRICS,
    TOLERABLE_NATS,
    OutputFunction,
    OutputMetric,
    checked_outputs,
    sample_means,
)
from sensitivity.curvature.rounding_error import weight_change
from sensitivity.forward.prefix import Prefix
from sensitivity.forward.weight_function import WeightFunction, weight_function
from sensitivity.study.study import Study, mean_and_error, once, require_layers_only, table
from sensitivity.study.tasks import Key


def gauss_newton(
    study: Study, *, outputs: OutputFunction, metric: str = "softmax_kl", together: bool = True
) -> CostTable:
    """Fill the table with one forward-mode derivative per entry.

    Args:
        outputs: (model, batch) → (B, …, C), such as the logits.
        together: Push all formats of a layer through the model at once, for the memory of F activations; turn it off
            where memory is short, or where the model's Python code looks at values.

    Returns:
        (L, F) with standard errors over samples.

    Raises:
        InvalidInputError: The metric is unknown, the outputs are not of that shape, or a value is not finite (names
            the layer and the format).
    """
    require_layers_only(study, "gauss_newton")
    chosen = METRICS.find(metric)
    keys = [(layer.name,) for layer in study.layers]
    measure = partial(_layer, outputs=outputs, metric=metric, together=together)
    pieces = study.engine(study, f"gauss_newton {metric}", keys, measure)  # L × (N, F)
    values, errors = mean_and_error(np.stack(pieces, axis=1))  # (L, F)
    meaning = f"second-order change of the outputs, {chosen.unit}; mean over samples and their rows"
    return table(values, errors, meaning, tolerable=TOLERABLE_NATS if metric == "softmax_kl" else None)


def _layer(study: Study, key: Key, *, outputs: OutputFunction, metric: str, together: bool) -> FloatArray:
    prefix, reference = once(study, "originals", partial(_originals, study, outputs))
    layer = next(item for item in study.layers if item.name == key[0])
    changes = torch.stack([weight_change(study, layer, fmt) for fmt in study.formats])  # (F, …)
    samples = []
    # Fused attention kernels have no forward-mode derivative.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        for index, batch in enumerate(study.batches):
            prefix.prepare(layer.modules, index, partial(outputs, study.model, batch))
            with prefix.replaying(index):
                push = partial(_push, weight_function(study, layer, outputs, batch), layer.weight.detach())
                moved = torch.vmap(push)(changes) if together else torch.stack([push(one) for one in changes])
            samples.append(_distances(METRICS.find(metric), reference[index], moved))  # (B, F)
    made: FloatArray = torch.cat(samples).double().cpu().numpy()
    for column in np.flatnonzero(~np.isfinite(made).all(axis=0)):
        where = f"layer {layer.name!r} in format {study.formats[column].name!r}"
        raise InvalidInputError(Fault("/batches", f"{where} moves the outputs by NaN or infinity"))
    return made


def _push(run: WeightFunction, weight: Tensor, change: Tensor) -> Tensor:
    with warnings.catch_warnings():
        # The first forward-mode derivative of a process lets torch compile its own formulas with torch.jit.script.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        moved: Tensor = torch.func.jvp(run, (weight,), (change,))[1]
    return moved


def _originals(study: Study, outputs: OutputFunction) -> tuple[Prefix, list[Tensor]]:
    prefix, reference = Prefix(study.model), []
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        for index, batch in enumerate(study.batches):
            with prefix.tracing(index):
                reference.append(checked_outputs(outputs(study.model, batch)))
    return prefix, reference


def _distances(metric: OutputMetric, reference: Tensor, moved: Tensor) -> Tensor:
    rows = [sample_means(metric.quadratic(reference.double(), one.double())) for one in moved]
    return torch.stack(rows, dim=1)
