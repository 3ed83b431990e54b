r"""One random probe of the curvature of the calibration loss, all layers at once.

Hessian: for signs v of all layers at once, :math:`v_l^\top (Hv)_l` has the mean Tr(H_l), because the v of other
layers are independent of v_l and have mean zero. It costs one Hessian-vector product, whatever the number of layers,
but the blocks between layers add to its noise. With v in one layer at a time, that noise is gone for one product per
layer, each through the later layers only.

Gauss-Newton: with SSᵀ the Hessian of the metric in the outputs (see :mod:`sensitivity.curvature.output_metrics`) and
signs u of the size of the outputs, :math:`\lVert J_l^\top S u \rVert^2` has the mean
:math:`\operatorname{Tr}(J_l^\top S S^\top J_l)`. It costs one ordinary backward pass, is never negative, and has no
noise from other layers.

Source: M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix" (1989); for the Gauss-Newton
form, N. Schraudolph, "Fast curvature matrix-vector products", Neural Computation 2002, with the trace taken on the
side of the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from allocator import Fault, InvalidInputError
from allocator.knapsack.problem import FloatArray
from sensitivity.curvature.gradients import requiring_grad
from sensitivity.curvature.output_metrics import OutputFunction, OutputMetric, checked_outputs
from sensitivity.study.calibration import sample_losses
from sensitivity.study.study import Study, derived_seed


@dataclass(frozen=True, eq=False)
class _Backward:
    """What every probe of one batch shares.

    Attributes:
        batch: Index of the batch.
        samples: Number of its samples.
        values: What is differentiated: the gradients of the mean loss, or the outputs.
    """

    batch: int
    samples: int
    values: tuple[Tensor, ...]


def hessian_probe(study: Study, batch: int, probe: int, separate: bool = False) -> FloatArray:
    """Quadratic forms of the Hessian of a batch's mean loss.

    Args:
        batch: Index of the batch.
        probe: Number of the probe; seeds its signs.
        separate: One product for each layer on its own, rather than one for all.

    Returns:
        (L + 1,): the forms of the layers, then the number of samples in the batch.

    Raises:
        InvalidInputError: The losses do not depend on a weight, or a product is not finite.
    """
    weights = [layer.weight for layer in study.layers]
    # Fused attention kernels have no second derivative.
    with requiring_grad(study.model, weights), sdpa_kernel(SDPBackend.MATH):
        shared = _shared(study, batch) or _keep(study, _gradients(study, batch))
        groups = [[index] for index in range(len(weights))] if separate else [list(range(len(weights)))]
        forms = [form for group in groups for form in _forms(study, shared.values, group, probe)]
    return _finite(study, np.array([*forms, shared.samples], dtype=float), "Hessian")


def _forms(study: Study, gradients: tuple[Tensor, ...], group: list[int], probe: int) -> list[float]:
    layers = [study.layers[index] for index in group]
    signs = [_signs(layer.weight, study.seed, layer.name, probe) for layer in layers]
    # The gradient of a loss that is linear in all weights depends on none of them and has no derivative.
    pairs = [(gradients[index], sign) for index, sign in zip(group, signs, strict=True)]
    curved = [(gradient, sign) for gradient, sign in pairs if gradient.requires_grad]
    if not curved:
        return [0.0] * len(group)
    products = torch.autograd.grad(
        [gradient for gradient, _ in curved],
        [layer.weight for layer in layers],
        [sign for _, sign in curved],
        retain_graph=True,
        materialize_grads=True,
    )
    return [_dot(sign, product) for sign, product in zip(signs, products, strict=True)]


def gauss_newton_probe(
    study: Study, batch: int, probe: int, outputs: OutputFunction, metric: OutputMetric
) -> FloatArray:
    """Squared norms of a random combination of the outputs' gradients.

    Args:
        batch: Index of the batch.
        probe: Number of the probe; seeds its signs.
        outputs: (model, batch) → (B, …, C).

    Returns:
        (L + 1,): the estimates of the layers, then the number of samples in the batch.

    Raises:
        InvalidInputError: The outputs are not of that shape or depend on no weight, or a gradient is not finite.
    """
    weights = [layer.weight for layer in study.layers]
    with requiring_grad(study.model, weights):
        shared = _shared(study, batch)
        if shared is None:
            made = checked_outputs(outputs(study.model, study.batches[batch]))
            _require_dependent(made, "/outputs", "outputs")
            shared = _keep(study, _Backward(batch, len(made), (made,)))
        (made,) = shared.values
        direction = metric.root(made.detach(), _signs(made, study.seed, f"batch {batch}", probe))
        gradients = torch.autograd.grad(made, weights, direction, retain_graph=True, materialize_grads=True)
    rows = made[..., 0].numel()
    norms = [_dot(gradient, gradient) / rows for gradient in gradients]
    return _finite(study, np.array([*norms, shared.samples], dtype=float), "Gauss-Newton matrix")


def _gradients(study: Study, batch: int) -> _Backward:
    losses = sample_losses(study.model, study.batches[batch], study.loss_fn)
    _require_dependent(losses, "/loss_fn", "losses")
    weights = [layer.weight for layer in study.layers]
    values = torch.autograd.grad(losses.mean(), weights, create_graph=True, materialize_grads=True)
    return _Backward(batch, len(losses), values)


def _shared(study: Study, batch: int) -> _Backward | None:
    kept: _Backward | None = study.memo.get("backward")
    return kept if kept is not None and kept.batch == batch else None


def _keep(study: Study, made: _Backward) -> _Backward:
    # One batch at a time: what is kept holds every activation of its batch.
    study.memo["backward"] = made
    return made


def _require_dependent(made: Tensor, where: str, what: str) -> None:
    if not made.requires_grad:
        detail = f"the {what} do not depend on any weight; were they detached?"
        raise InvalidInputError(Fault(where, detail))


def _signs(like: Tensor, seed: int, *parts: object) -> Tensor:
    # One bit for each sign: drawing a byte or more for each would take as long as half of a backward pass.
    generator = np.random.default_rng(derived_seed(seed, "hessian_trace", *parts))
    drawn = np.frombuffer(generator.bytes(-(-like.numel() // 8)), dtype=np.uint8)
    bits = torch.from_numpy(np.unpackbits(drawn, count=like.numel())).reshape(like.shape)
    return bits.to(like).mul_(2).sub_(1)


def _dot(first: Tensor, second: Tensor) -> float:
    # Rows are summed up in single precision at least, and sums of rows in double.
    precise = torch.promote_types(first.dtype, torch.float32)
    rows = first.to(precise).reshape(len(first), 1, -1)  # (rows, 1, n)
    products = torch.bmm(rows, second.to(precise).reshape(len(first), -1, 1))
    return float(products.sum(dtype=torch.float64))


def _finite(study: Study, forms: FloatArray, what: str) -> FloatArray:
    for layer, form in zip(study.layers, forms[:-1], strict=True):
        if not np.isfinite(form):
            raise InvalidInputError(Fault("/batches", f"the {what} of layer {layer.name!r} is not finite"))
    return forms
