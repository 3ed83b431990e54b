"""Direct measurement: quantize one layer at a time and see how far the outputs move.

Source: I. Hubara et al., "CalibTIP", ICML 2021; T. Zhao et al., "MixDQ", ECCV 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from allocator import CostTable, Fault, InvalidInputError
from sensitivity.calibration import Batch
from sensitivity.prefix import Prefix
from sensitivity.study import Study, mean_and_error, replaced, rounded, table


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
        (L, F) mean distances with standard errors over samples.

    Raises:
        InvalidInputError: A distance is not finite; names the layer and the format.
    """
    data = study.batches if batches is None else batches
    prefix = Prefix(study.model)
    with torch.inference_mode():
        reference = []
        for index, batch in enumerate(data):
            with prefix.recording(index):
                reference.append(outputs(study.model, batch))
        values = np.empty((len(study.layers), len(study.formats)))
        errors = np.zeros_like(values)
        total = values.size
        for row, layer in enumerate(study.layers):
            blocks = prefix.before(layer.name)
            for column, target in enumerate(study.formats):
                samples = []
                with replaced(layer, rounded(layer, target)):
                    for index, batch in enumerate(data):
                        with prefix.replaying(blocks, index):
                            samples.append(distance(reference[index], outputs(study.model, batch)).double())
                mean, error = mean_and_error(torch.cat(samples).numpy())
                if not np.isfinite(mean):
                    detail = (
                        f"layer {layer.name!r} in format {target.name!r} gives a distance that is not finite"
                    )
                    raise InvalidInputError(Fault("/batches", detail))
                values[row, column] = mean
                errors[row, column] = 0.0 if error is None else error
                study.progress(name, row * len(study.formats) + column + 1, total)
    return table(values, errors, f"{meaning}; measured, one layer quantized at a time")
