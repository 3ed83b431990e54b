"""What estimators hold in memory at once, compared with what is free before any of them begins.

Sizes come from one pass over the largest calibration batch. They are lower bounds: kernels take more, and so does a
memory that is in pieces. What is refused would not have fitted; what is let through may still fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from allocator import CostTable
from allocator.contract.errors import pointer
from sensitivity.estimators.fisher import fisher
from sensitivity.estimators.gauss_newton import gauss_newton
from sensitivity.estimators.hessian_trace import hessian_trace
from sensitivity.estimators.kl import kl
from sensitivity.estimators.loss import loss
from sensitivity.estimators.lrp import lrp
from sensitivity.estimators.measured import measured
from sensitivity.estimators.output_mse import output_mse
from sensitivity.forward.prefix import Prefix
from sensitivity.forward.storages import Storages
from sensitivity.profiling.memory import free_bytes, require_memory
from sensitivity.rows import modules_of
from sensitivity.study.study import Estimator, Study

_ADVICE = "use smaller batches, fewer formats at a time, or an estimator that needs less"


@dataclass(frozen=True)
class Sizes:
    """Bytes of the parts that estimators work with.

    Attributes:
        formats: Number of formats.
        samples: Samples of the largest batch.
        weights: All weights of layers.
        largest: The largest weight.
        dense: The largest weight that is no Embedding.
        activations: Most that is alive at a moment of a pass without gradients.
        graph: Everything that a pass computes, which is what gradients keep.
        replayed: Outputs kept for the last layers, so that what comes before them is not computed again, all batches.
    """

    formats: int
    samples: int
    weights: int
    largest: int
    dense: int
    activations: int
    graph: int
    replayed: int


#: (sizes, options of the estimator) → what for → bytes.
Need: TypeAlias = Callable[[Sizes, Mapping[str, Any]], Mapping[str, int]]


def _fisher(sizes: Sizes, _: Mapping[str, Any]) -> Mapping[str, int]:
    return {
        "errors of all weights in all formats": sizes.formats * sizes.weights,
        "a pass with gradients": sizes.graph,
        "gradients of single samples": sizes.samples * sizes.dense,
    }


def _hessian_trace(sizes: Sizes, options: Mapping[str, Any]) -> Mapping[str, int]:
    if options.get("curvature") == "gauss_newton":
        return {"a pass with gradients": sizes.graph, "gradients": sizes.weights}
    return {"a pass with second gradients": 2 * sizes.graph, "signs and products": 3 * sizes.weights}


def _gauss_newton(sizes: Sizes, options: Mapping[str, Any]) -> Mapping[str, int]:
    count = sizes.formats if options.get("together", True) else 1
    return {
        f"{count} derivatives at once": (count + 1) * sizes.activations,
        "changed weights": sizes.formats * sizes.largest,
        "what is replayed": sizes.replayed,
    }


def _measured(sizes: Sizes, options: Mapping[str, Any]) -> Mapping[str, int]:
    count = min(int(options.get("together", 1)), sizes.formats)
    return {
        f"{count} passes at once": count * sizes.activations,
        "changed weights": count * sizes.largest,
        "what is replayed": sizes.replayed,
    }


def _lrp(sizes: Sizes, _: Mapping[str, Any]) -> Mapping[str, int]:
    return {"a pass with relevance": 2 * sizes.graph}


def _output_mse(sizes: Sizes, _: Mapping[str, Any]) -> Mapping[str, int]:
    return {"changes of all weights": sizes.formats * sizes.weights, "a pass": sizes.activations}


#: Estimator → what it holds. Those that are not here hold little more than a pass.
NEEDS: Mapping[Callable[..., CostTable], Need] = {
    fisher: _fisher,
    hessian_trace: _hessian_trace,
    gauss_newton: _gauss_newton,
    measured: _measured,
    kl: _measured,
    loss: _measured,
    lrp: _lrp,
    output_mse: _output_mse,
}


def require_room(study: Study, estimators: Mapping[str, Estimator]) -> None:
    """Refuse estimators that do not fit into the memory of the device that the model is on."""
    asked = {
        name: (NEEDS[function], options)
        for name, (function, options) in ((name, _unbound(item)) for name, item in estimators.items())
        if function in NEEDS
    }
    if not asked:
        return
    device = next(chain(study.model.parameters(), study.model.buffers())).device
    free = free_bytes(device)
    sizes = sizes_of(study)
    for name, (need, options) in asked.items():
        require_memory(need(sizes, options), free, pointer(("estimators", name)), _ADVICE)


def sizes_of(study: Study) -> Sizes:
    """Return the sizes of one pass over the largest calibration batch."""
    batch = max(study.batches, key=_numbers)
    prefix, alive = Prefix(study.model), [0]
    storages = Storages(lambda held: alive.append(max(alive.pop(), held)))
    with torch.no_grad(), prefix.tracing(0), storages:
        samples = len(study.loss_fn(study.model, batch))
    weights = [_bytes(layer.weight) for layer in study.layers]
    dense = [_bytes(layer.weight) for layer in study.layers if not isinstance(layer.modules[0], nn.Embedding)]
    replayed = max((prefix.kept_bytes(modules_of(row), 0) for row in study.rows), default=0)
    return Sizes(
        formats=len(study.formats),
        samples=samples,
        weights=sum(weights),
        largest=max(weights, default=0),
        dense=max(dense, default=0),
        activations=alive[0],
        graph=storages.allocated_bytes,
        replayed=replayed * sum(map(_numbers, study.batches)) // max(_numbers(batch), 1),
    )


def _unbound(estimator: Callable[..., CostTable]) -> tuple[Callable[..., CostTable], Mapping[str, Any]]:
    options: dict[str, Any] = {}
    while isinstance(estimator, partial):
        options = {**estimator.keywords, **options}
        estimator = estimator.func
    return estimator, options


def _numbers(batch: object) -> int:
    return sum(item.numel() for item in tree_leaves(batch) if isinstance(item, Tensor))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
