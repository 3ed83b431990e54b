"""What formats of their own do to rows: shapes that they do not take, and shapes that they store otherwise."""

from __future__ import annotations

from torch import nn

from allocator.contract.errors import pointer
from quantize import StorageFormat
from quantize.formats import flat_shape
from quantize.rounding.nearest import importance_missing
from sensitivity.models.layers import LayerRef
from sensitivity.rows import Row, weight_shape
from sensitivity.study.study import Study


def unstorable(row: Row, widths: tuple[int, ...], fmt: StorageFormat) -> str | None:
    """Say why a row cannot have a format of its own.

    Args:
        row: Any row.
        widths: Lengths that groups run along; see :class:`sensitivity.units.shape_rules.Shape`.
        fmt: Any format.

    Returns:
        The reason; None where it can, and for formats that this library rounds to itself.
    """
    if fmt.codec is None:
        return None
    if fmt.codec.needs_importance and not _multiplies(row):
        return importance_missing(fmt)
    if fmt.codec.misfit is None:
        return None
    whole = weight_shape(row)
    shapes = [tuple(whole)] if whole is not None else [(1, width) for width in widths]
    return next((reason for shape in shapes if (reason := fmt.codec.misfit(shape)) is not None), None)


def stored_otherwise(study: Study) -> dict[str, str]:
    """Notes for the provenance: the formats that become other types in some rows, as their tools make them.

    Returns:
        JSON pointer of a column → how many weights become which type.
    """
    notes = {}
    for fmt in study.formats:
        becomes = fmt.codec.stored_as if fmt.codec is not None else None
        if becomes is None:
            continue
        counts: dict[tuple[int, str], int] = {}
        for row in study.rows:
            shape = weight_shape(row)
            if shape is None or unstorable(row, (), fmt) is not None or becomes(tuple(shape)) == fmt.name:
                continue
            key = flat_shape(shape)[1], becomes(tuple(shape))
            counts[key] = counts.get(key, 0) + 1
        if counts:
            told = (f"{count} with rows of {row} become {other}" for (row, other), count in counts.items())
            notes[pointer(("formats", fmt.name))] = (
                f"of the weights, {'; '.join(told)}, bytes and codes alike"
            )
    return notes


def _multiplies(row: Row) -> bool:
    # Only of layers whose inputs are multiplied are second moments known.
    return isinstance(row, LayerRef) and not all(isinstance(module, nn.Embedding) for module in row.modules)
