"""What an estimator sees: the model, the data, the layers and formats, and where to report progress."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from allocator import CostTable, Fault, InvalidInputError
from allocator.contract.errors import pointer
from allocator.knapsack.problem import FloatArray
from quantize import NEAREST, Rounding, StorageFormat, restored, round_trip
from quantize.rounding.methods import takes_importance
from quantize.rounding.nearest import Float32Array
from sensitivity.models.layers import LayerRef
from sensitivity.rows import Row
from sensitivity.study.calibration import Batch, LossFunction
from sensitivity.study.input_moments import input_moments
from sensitivity.study.tasks import Engine, serial

T = TypeVar("T")


class Progress(Protocol):
    """Told after every step of a long computation."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` steps of a stage are finished."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""
    del stage, done, total


@dataclass(frozen=True, eq=False)
class Study:
    """One profiling run.

    Attributes:
        model: In evaluation mode; estimators leave it bit-identical.
        batches: Calibration batches.
        loss_fn: (model, batch) → (B,) losses.
        layers: Weights of modules; the rows of a profile that has no others.
        formats: Columns, F of them.
        seed: Seed of everything random.
        progress: Told after every step.
        engine: Computes the pieces that estimators cut their work into.
        memo: What the pieces of one stage share within one process; see :func:`once`.
        others: Rows beside the layers: experts, activations, KV caches. Estimators that can fill them read ``rows``.
        rounding: How weights of layers are rounded; estimators call :func:`weight_in`.
        refused: (row, format) that will be null in every table: nothing is rounded there.
    """

    model: nn.Module
    batches: Sequence[Batch]
    loss_fn: LossFunction
    layers: tuple[LayerRef, ...]
    formats: tuple[StorageFormat, ...]
    seed: int
    progress: Progress
    engine: Engine = serial
    memo: dict[Hashable, Any] = field(default_factory=dict)
    others: tuple[Row, ...] = ()
    rounding: Rounding = NEAREST
    refused: frozenset[tuple[str, str]] = frozenset()

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows of the profile: layers, then the others."""
        return (*self.layers, *self.others)


def once(study: Study, key: Hashable, build: Callable[[], T]) -> T:
    """Build what several pieces need, such as the original outputs, once per stage and process.

    Args:
        build: Builds it; must give the same in every process.

    Returns:
        What was built.
    """
    if key not in study.memo:
        study.memo[key] = build()
    value: T = study.memo[key]
    return value


class Estimator(Protocol):
    """An estimator is a function in a module of its own; see CONTRIBUTING.md."""

    def __call__(self, study: Study) -> CostTable:
        """Fill one (L, F) table."""
        ...


def require_layers_only(study: Study, name: str) -> None:
    """Refuse a study with rows that an estimator of weights cannot fill.

    Raises:
        InvalidInputError: The study has rows beside its layers, or no layers.
    """
    if study.others or not study.layers:
        shown = ", ".join(repr(row.name) for row in study.others[:2])
        detail = (
            f"{name} is about weights of layers; {shown} … need a measured table, or leave those rows out"
        )
        raise InvalidInputError(Fault("/rows", detail))


def rounded(layer: LayerRef, fmt: StorageFormat) -> Tensor:
    """Return the weight of a layer rounded to nearest, as the backends do by themselves."""
    return changed_weight(layer, lambda plain: round_trip(plain, fmt))


def changed_weight(layer: LayerRef, change: Callable[[Float32Array], Float32Array]) -> Tensor:
    """Change a copy of a weight as numbers in single precision.

    Args:
        change: Weight in, weight of the same shape out.

    Returns:
        A tensor like ``layer.weight``.

    Raises:
        InvalidInputError: ``change`` refuses the weight; names the layer.
    """
    weight = layer.weight.detach()
    plain = weight.to(torch.float32).cpu().numpy()
    try:
        return torch.from_numpy(change(plain)).to(weight)
    except InvalidInputError as error:
        where = pointer(("layers", layer.name))
        raise InvalidInputError(*(Fault(where, fault.detail) for fault in error.faults)) from error


def weight_in(study: Study, layer: LayerRef, fmt: StorageFormat) -> Tensor:
    """The weight of a layer as it will be in a format, with the rounding of the study.

    Args:
        study: Says how to round. Roundings that look at the data get the second moments of what goes into the layer in
            the original model, so that no weight may be replaced at the time of the call.

    Returns:
        A tensor like ``layer.weight``; that weight itself where the study refuses the format.
    """
    if (layer.name, fmt.name) in study.refused:
        return layer.weight.detach()
    if study.rounding == NEAREST and not takes_importance(fmt, NEAREST):
        return rounded(layer, fmt)
    gather = partial(input_moments, study.model, study.batches, study.loss_fn, study.layers)
    moment = once(study, "input moments", gather).get(layer.name)
    return changed_weight(layer, lambda plain: restored(plain, fmt, study.rounding, moment))


@contextmanager
def replaced(layer: LayerRef, weight: Tensor) -> Iterator[None]:
    """Let a layer compute with another weight for a while.

    Yields:
        Nothing; the original weight is back, bit for bit, at the end.
    """
    original = layer.weight.data
    layer.weight.data = weight
    try:
        yield
    finally:
        layer.weight.data = original


def derived_seed(seed: int, *parts: object) -> int:
    """A seed of its own for each task, independent of the order in which tasks run.

    Args:
        *parts: What tells the task apart: layer, format, probe.

    Returns:
        A number below 2⁶³.
    """
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def mean_and_error(samples: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    """Mean over the first axis, and its standard error.

    Args:
        samples: (N, …) independent samples.

    Returns:
        Mean and standard error; the latter is None for a single sample.
    """
    if len(samples) < 2:
        return samples.mean(axis=0), None
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples))


def table(
    values: FloatArray,
    stderr: FloatArray | None,
    meaning: str,
    *,
    comparable: Literal["all", "one_kind"] | None = None,
    tolerable: float | None = None,
) -> CostTable:
    """Wrap arrays as a cost table.

    Args:
        values: (L, F).
        stderr: (L, F), or None where it is not known.
        meaning: What the number is, with unit and normalisation.
        comparable: Which rows the table can compare.
        tolerable: Most that a plan may add up to and still be of use.

    Returns:
        The table.
    """
    return CostTable(
        values=tuple(map(tuple, values.tolist())),
        stderr=None if stderr is None else tuple(map(tuple, stderr.tolist())),
        meaning=meaning,
        comparable=comparable,
        tolerable=tolerable,
    )
