"""Direct measurement: quantize one layer at a time and see how far the outputs move.

Source: I. Hubara et al., "CalibTIP", ICML 2021; T. Zhao et al., "MixDQ", ECCV 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from allocator import CostTable, Fault, InvalidInputError
from allocator.problem import FloatArray
from quantize import Format
from sensitivity.calibration import Batch
from sensitivity.prefix import Prefix
from sensitivity.rows import Row, applied, modules_of
from sensitivity.study import Study, mean_and_error, once, table
from sensitivity.tasks import Key


def measured(
    study: Study,
    *,
    name: str,
    outputs: Callable[[nn.Module, Batch], Tensor],
    distance: Callable[[Tensor, Tensor], Tensor],
    meaning: str,
    batches: Sequence[Batch] | None = None,
) -> CostTable:
    """Measure the table, one forward pass from the changed block on per entry and batch.

    Args:
        study: Model, data, layers and formats.
        name: Name of the table, for progress reports.
        outputs: (model, batch) → what the model says.
        distance: (original outputs, changed outputs) → (B,) distances.
        meaning: What a distance is.
        batches: Data to measure on; the calibration batches when absent.

    Returns:
        (L, F) mean distances, with standard errors over samples where there are at least two.

    Raises:
        InvalidInputError: A distance is not finite (names the layer and the format) or not one number per sample.
    """
    data = study.batches if batches is None else batches
    keys = [(layer.name, target.name) for layer in study.rows for target in study.formats]
    measure = partial(_entry, name=name, data=data, outputs=outputs, distance=distance)
    means, errors = mean_and_error(np.array(study.engine(study, name, keys, measure)).T)  # (L · F,)
    shape = (len(study.rows), len(study.formats))
    stderr = None if errors is None else errors.reshape(shape)
    return table(means.reshape(shape), stderr, f"{meaning}; measured, one layer quantized at a time")


def _entry(
    study: Study,
    key: Key,
    *,
    name: str,
    data: Sequence[Batch],
    outputs: Callable[[nn.Module, Batch], Tensor],
    distance: Callable[[Tensor, Tensor], Tensor],
) -> FloatArray:
    prefix, reference = once(study, (name, "originals"), partial(_originals, study, data, outputs, distance))
    layer = next(item for item in study.rows if item.name == key[0])
    target = next(item for item in study.formats if item.name == key[1])
    with torch.no_grad():
        for index, batch in enumerate(data):
            prefix.prepare(modules_of(layer), index, partial(outputs, study.model, batch))
        samples = []
        with applied(layer, target):
            for index, batch in enumerate(data):
                with prefix.replaying(index):
                    samples.append(distance(reference[index], outputs(study.model, batch)))
    return _samples(samples, layer, target)


def _originals(
    study: Study,
    data: Sequence[Batch],
    outputs: Callable[[nn.Module, Batch], Tensor],
    distance: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Prefix, list[Tensor]]:
    prefix = Prefix(study.model)
    reference = []
    with torch.no_grad():
        for index, batch in enumerate(data):
            with prefix.tracing(index):
                reference.append(outputs(study.model, batch))
            if not torch.isfinite(distance(reference[index], reference[index])).all():
                detail = f"the original model already gives NaN or infinity on batch {index}"
                raise InvalidInputError(Fault("/batches", detail))
    return prefix, reference


def _samples(distances: list[Tensor], layer: Row, target: Format) -> FloatArray:
    if any(not isinstance(item, Tensor) or item.dim() != 1 for item in distances):
        raise InvalidInputError(
            Fault("/distance", "expected one distance per sample, a tensor of shape (B,)")
        )
    samples: FloatArray = torch.cat(distances).double().cpu().numpy()
    if not np.isfinite(samples).all():
        detail = f"layer {layer.name!r} in format {target.name!r} gives a distance that is not finite"
        raise InvalidInputError(Fault("/batches", detail))
    return samples
