"""One row that has a format for a while, whatever its kind."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import assert_never

from quantize import StorageFormat
from sensitivity.models.layers import LayerRef
from sensitivity.rows import ActivationRef, CacheRef, ExpertRef, Row
from sensitivity.rows.activations import rounding_input
from sensitivity.rows.experts import replacing_expert
from sensitivity.rows.kv_cache import rounding_cache
from sensitivity.study.study import Study, replaced, weight_in


def applied(study: Study, row: Row, fmt: StorageFormat) -> AbstractContextManager[None]:
    """Let one row have a format for a while.

    Args:
        study: Says how to round the weights of layers; whatever else is rounded goes to nearest.

    Returns:
        A context manager; the model is as it was, bit for bit, at the end.
    """
    if (row.name, fmt.name) in study.refused:
        return nullcontext()
    if isinstance(row, LayerRef):
        return replaced(row, weight_in(study, row, fmt))
    if isinstance(row, ExpertRef):
        return replacing_expert(row, fmt)
    if isinstance(row, ActivationRef):
        return rounding_input(row, fmt)
    if isinstance(row, CacheRef):
        return rounding_cache(row, fmt)
    assert_never(row)
