"""The profile of a known kind of model: its loss and outputs for the tables that every kind has, and its own tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from allocator import Profile
from allocator.contract.registry import Registry
from sensitivity.curvature.output_metrics import OutputFunction
from sensitivity.estimators.fisher import fisher
from sensitivity.estimators.hessian_trace import hessian_trace
from sensitivity.profiling.profile_model import profile_model
from sensitivity.study.calibration import Batch, LossFunction
from sensitivity.study.study import Estimator


@dataclass(frozen=True)
class ModelKind:
    """What tables of a kind of model are measured with.

    Attributes:
        loss_fn: (model, batch) → (B,) losses, which ``fisher`` and ``hessian_trace`` differentiate.
        outputs: (model, batch) → outputs, which ``gauss_newton_trace`` differentiates.
        metric: How far apart two outputs are; see :mod:`sensitivity.curvature.output_metrics`.
        own: Tables besides those three.
    """

    loss_fn: LossFunction
    outputs: OutputFunction
    metric: str
    own: Mapping[str, Estimator]


def profile_kind(
    kind: ModelKind,
    model: nn.Module,
    batches: Sequence[Batch],
    formats: Sequence[str],
    tables: Sequence[str],
    probes: int,
    **options: Any,  # noqa: ANN401
) -> Profile:
    """Profile a model of a kind.

    Args:
        formats: Names of storage formats, the columns.
        tables: Which tables to fill, in this order.
        **options: Of :func:`~sensitivity.profiling.profile_model.profile_model`.

    Returns:
        The profile.

    Raises:
        InvalidInputError: The kind has no such table, or the model cannot be profiled.
    """
    traced = partial(hessian_trace, probes=probes)
    gauss_newton = partial(traced, curvature="gauss_newton", outputs=kind.outputs, metric=kind.metric)
    known: dict[str, Estimator] = {
        "gauss_newton_trace": gauss_newton,
        "hessian_trace": traced,
        "fisher": fisher,
    }
    chosen = Registry("table", {**known, **kind.own}, pointer="/tables").chosen(tables)
    return profile_model(model, batches, kind.loss_fn, formats, chosen, **options)
