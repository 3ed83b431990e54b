"""Direct measurement: quantize one layer at a time and see how far the outputs move.

What comes before the changed layer is computed once and replayed (:mod:`sensitivity.forward.prefix`). With
``together``, several formats of a layer go through the rest of the model at once.

Source: I. Hubara et al., "CalibTIP", ICML 2021; T. Zhao et al., "MixDQ", ECCV 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from allocator import CostTable, Fault, InvalidInputError
from allocator.knapsack.problem import FloatArray
from quantize import StorageFormat
from sensitivity.forward.prefix import Prefix
from sensitivity.forward.weight_function import weight_function
from sensitivity.models.layers import LayerRef
from sensitivity.rows import Row, modules_of
from sensitivity.study.applied import applied
from sensitivity.study.calibration import Batch
from sensitivity.study.finite import where_not_finite
from sensitivity.study.study import Study, mean_and_error, once, table, weight_in
from sensitivity.study.tasks import Key

_Outputs: TypeAlias = Callable[[nn.Module, Batch], Tensor]
_Distance: TypeAlias = Callable[[Tensor, Tensor], Tensor]
#: Told place of the format, index of the batch, and what the changed model says.
_Note: TypeAlias = Callable[[int, int, Tensor], None]


def measured(
    study: Study,
    *,
    name: str,
    outputs: _Outputs,
    distance: _Distance,
    meaning: str,
    batches: Sequence[Batch] | None = None,
    together: int = 1,
    tolerable: float | None = None,
) -> CostTable:
    """Measure the table, one forward pass from the changed block on per entry and batch.

    Args:
        name: Name of the table, for progress reports.
        outputs: (model, batch) → what the model says.
        distance: (original outputs, changed outputs) → (B,) distances.
        meaning: What a distance is.
        batches: Data to measure on; the calibration batches when absent.
        together: How many formats of a layer go through the model at once, as one batched computation: faster where
            calls cost more than what they compute, for the memory of as many passes. The numbers are those of whole
            passes bit for bit only for 1: batched products sum in another order. Rows that are no weights of layers
            are measured one at a time.
        tolerable: Most that a plan may add up to and still be of use; answers warn of more.

    Returns:
        (L, F) mean distances, with standard errors over samples where there are at least two.

    Raises:
        InvalidInputError: A distance is not finite (names the layer and the format) or not one number per sample, or
            ``together`` is below 1 or needs more memory than there is.
    """
    if together < 1:
        raise InvalidInputError(Fault("/together", f"expected at least 1 format at once, got {together}"))
    data = study.batches if batches is None else batches
    columns = [fmt.name for fmt in study.formats]
    keys = [
        (row.name, *chunk)
        for row in study.rows
        for chunk in _chunks(columns, together if isinstance(row, LayerRef) else 1)
    ]
    measure = partial(_entries, name=name, data=data, outputs=outputs, distance=distance)
    samples = np.concatenate(study.engine(study, name, keys, measure))  # (L · F, N)
    means, errors = mean_and_error(samples.T)
    shape = (len(study.rows), len(study.formats))
    stderr = None if errors is None else errors.reshape(shape)
    return table(
        means.reshape(shape),
        stderr,
        f"{meaning}; measured, one layer quantized at a time",
        tolerable=tolerable,
    )


def _chunks(columns: Sequence[str], size: int) -> list[Sequence[str]]:
    return [columns[start : start + size] for start in range(0, len(columns), size)]


def _entries(
    study: Study, key: Key, *, name: str, data: Sequence[Batch], outputs: _Outputs, distance: _Distance
) -> FloatArray:
    # (formats in the key, N)
    prefix, reference = once(study, (name, "originals"), partial(_originals, study, data, outputs, distance))
    row = next(item for item in study.rows if item.name == key[0])
    targets = [item for item in study.formats if item.name in key[1:]]
    with torch.no_grad():
        for index, batch in enumerate(data):
            prefix.prepare(modules_of(row), index, partial(outputs, study.model, batch))
        samples: list[list[Tensor]] = [[] for _ in targets]

        def note(place: int, index: int, made: Tensor) -> None:
            samples[place].append(distance(reference[index], made))

        if isinstance(row, LayerRef) and len(targets) > 1:
            _at_once(study, row, targets, prefix, data, outputs, note)
        else:
            _one_by_one(study, row, targets, prefix, data, outputs, note)
    return np.stack([_samples(*found, row) for found in zip(samples, targets, strict=True)])


def _one_by_one(
    study: Study,
    row: Row,
    targets: Sequence[StorageFormat],
    prefix: Prefix,
    data: Sequence[Batch],
    outputs: _Outputs,
    note: _Note,
) -> None:
    for place, fmt in enumerate(targets):
        with applied(study, row, fmt):
            for index, batch in enumerate(data):
                with prefix.replaying(index):
                    made = outputs(study.model, batch)
                note(place, index, made)


def _at_once(
    study: Study,
    layer: LayerRef,
    targets: Sequence[StorageFormat],
    prefix: Prefix,
    data: Sequence[Batch],
    outputs: _Outputs,
    note: _Note,
) -> None:
    weights = torch.stack([weight_in(study, layer, fmt) for fmt in targets])  # (K, …)
    for index, batch in enumerate(data):
        # Fused attention kernels take one batch at a time.
        with prefix.replaying(index), sdpa_kernel(SDPBackend.MATH):
            made = torch.vmap(weight_function(study, layer, outputs, batch))(weights)  # (K, B, …)
        for place, one in enumerate(made):
            note(place, index, one)


def _originals(
    study: Study, data: Sequence[Batch], outputs: _Outputs, distance: _Distance
) -> tuple[Prefix, list[Tensor]]:
    prefix = Prefix(study.model)
    reference = []
    with torch.no_grad():
        for index, batch in enumerate(data):
            with prefix.tracing(index):
                reference.append(outputs(study.model, batch))
            if not torch.isfinite(distance(reference[index], reference[index])).all():
                place = where_not_finite(study.model, partial(outputs, study.model, batch))
                detail = f"the original model already gives NaN or infinity on batch {index}: {place}"
                raise InvalidInputError(Fault("/batches", detail))
    return prefix, reference


def _samples(distances: list[Tensor], fmt: StorageFormat, row: Row) -> FloatArray:
    if any(not isinstance(item, Tensor) or item.dim() != 1 for item in distances):
        raise InvalidInputError(
            Fault("/distance", "expected one distance per sample, a tensor of shape (B,)")
        )
    samples: FloatArray = torch.cat(distances).double().cpu().numpy()
    if not np.isfinite(samples).all():
        detail = f"layer {row.name!r} in format {fmt.name!r} gives a distance that is not finite"
        raise InvalidInputError(Fault("/batches", detail))
    return samples
