"""Every plan of a small model measured, so that the true optimum is known at every budget.

A model that is a chain (``nn.Sequential``) is cut before each child that holds layers, and plans are walked as a tree:
what the first stages give is computed once for all plans that begin alike. With F formats, stage s is computed
F^(s + 1) times instead of F^L, and every number is that of a forward pass of the whole model, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError, Profile
from allocator.knapsack.problem import BoolArray, FloatArray
from allocator.knapsack.tables import WEIGHT_BYTES
from quantize import StorageFormat
from sensitivity.models.layers import LayerRef, discover
from sensitivity.study.study import Progress, replaced, rounded, silent

#: One option per layer.
Plan = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Stage:
    """A piece of a chain.

    Attributes:
        module: Computes it.
        layers: Those that come into play here.
    """

    module: nn.Module
    layers: tuple[LayerRef, ...]


def all_plans(
    model: nn.Module,
    inputs: Tensor,
    formats: Sequence[StorageFormat],
    distance: Callable[[Tensor, Tensor], Tensor],
    *,
    progress: Progress = silent,
) -> FloatArray:
    """Measure how far every plan moves the outputs of a model.

    Args:
        model: In evaluation mode; bit-identical afterwards. One that is not a ``nn.Sequential`` is computed as a whole
            for every plan.
        inputs: (B, …), one batch.
        formats: The options of every layer, F of them.
        distance: (original outputs, changed outputs) → (B,) distances.
        progress: Told after every plan.

    Returns:
        (F, …, F) mean distances with one axis per layer, in the order of :func:`sensitivity.discover`.

    Raises:
        InvalidInputError: The model is in training mode.

    Example:
        >>> from quantize import parse_format
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
        >>> formats = [parse_format(name) for name in ("int2", "int4", "fp32")]
        >>> gaps = all_plans(model, torch.randn(4, 8), formats, lambda a, b: (a - b).square().sum(1))
        >>> gaps.shape, float(gaps[2, 2])
        ((3, 3), 0.0)
    """
    if model.training:
        detail = "the model is in training mode, where outputs may be random; call model.eval() first"
        raise InvalidInputError(Fault("/model", detail))
    layers = discover(model)
    weights = {layer.name: [rounded(layer, fmt) for fmt in formats] for layer in layers}
    with torch.inference_mode():
        walk = _Walk(weights, model(inputs.clone()), distance, len(formats) ** len(layers), progress)
        _visit(walk, _stages(model, layers), inputs)
    return np.array(walk.measured).reshape((len(formats),) * len(layers))


@dataclass(frozen=True, eq=False)
class _Walk:
    weights: dict[str, list[Tensor]]
    original: Tensor
    distance: Callable[[Tensor, Tensor], Tensor]
    total: int
    progress: Progress
    measured: list[float] = field(default_factory=list)  # plans in lexicographic order


def _visit(walk: _Walk, stages: Sequence[Stage], hidden: Tensor) -> None:
    if not stages:
        walk.measured.append(walk.distance(walk.original, hidden).double().mean().item())
        walk.progress("plans", len(walk.measured), walk.total)
        return
    stage, *rest = stages
    for weights in product(*(walk.weights[layer.name] for layer in stage.layers)):
        with ExitStack() as stack:
            for layer, weight in zip(stage.layers, weights, strict=True):
                stack.enter_context(replaced(layer, weight))
            # An activation that works in place must not reach what the other plans start from.
            _visit(walk, rest, stage.module(hidden.clone()))


def _stages(model: nn.Module, layers: Sequence[LayerRef]) -> list[Stage]:
    if type(model) is not nn.Sequential:
        return [Stage(model, tuple(layers))]
    stages: list[tuple[list[nn.Module], list[LayerRef]]] = []
    for name, child in model._modules.items():  # named_children leaves out modules that are used again
        here = [layer for layer in layers if layer.name.split(".")[0] == name]
        if here or not stages:
            stages.append(([], []))
        stages[-1][0].append(child)
        stages[-1][1].extend(here)
    return [Stage(nn.Sequential(*modules), tuple(found)) for modules, found in stages]


def spent_bits(profile: Profile) -> FloatArray:
    """Effective bits of every plan.

    Args:
        profile: Bytes of every layer in every format.

    Returns:
        (F, …, F) stored bits per weight, one axis per layer.
    """
    rows = np.array(profile.resources[WEIGHT_BYTES].values, dtype=np.float64)  # (L, F)
    weights = sum(layer.parameters or 0 for layer in profile.layers)
    return 8 * sum_over_plans(rows) / weights


def sum_over_plans(rows: FloatArray) -> FloatArray:
    """Add up what the layers spend or cost, for every plan.

    Args:
        rows: (L, F).

    Returns:
        (F, …, F), one axis per layer.

    Example:
        >>> sum_over_plans(np.array([[1.0, 2.0], [10.0, 20.0]])).tolist()
        [[11.0, 21.0], [12.0, 22.0]]
    """
    total: FloatArray = np.zeros(())
    for row in rows:
        total = total[..., None] + row
    return total


def best_within(measured: FloatArray, spent: FloatArray, limit: float) -> Plan:
    """Find the plan that measured best among those within a budget.

    Args:
        measured: (F, …, F), from :func:`all_plans`.
        spent: (F, …, F), what each plan spends.
        limit: The most it may spend.

    Returns:
        Its options; the first of equal ones.

    Raises:
        InvalidInputError: No plan is within the budget.
    """
    within: BoolArray = spent <= limit
    if not within.any():
        detail = f"no plan spends at most {limit:g}; the lightest spends {spent.min():g}"
        raise InvalidInputError(Fault("/limit", detail))
    best = np.where(within, measured, np.inf).argmin()
    return tuple(int(option) for option in np.unravel_index(best, measured.shape))
