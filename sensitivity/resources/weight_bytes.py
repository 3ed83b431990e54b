"""Bytes that weights take when stored: codes, scales, zero points and padding, exact."""

from __future__ import annotations

from allocator import ResourceTable
from quantize import StorageFormat
from sensitivity.resources.spent import Spent, filled
from sensitivity.rows import Row, weight_shape
from sensitivity.study.study import Study


def weight_bytes(study: Study) -> Spent:
    """Count stored bytes; see :meth:`quantize.formats.StorageFormat.stored_bytes`.

    Returns:
        (L, F) bytes; activations and caches store no weight and spend 0.
    """

    def stored(row: Row, fmt: StorageFormat) -> int:
        shape = weight_shape(row)
        return 0 if shape is None else fmt.stored_bytes(shape)

    return Spent(ResourceTable(values=filled(study, stored), unit="byte"))
