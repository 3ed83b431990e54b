"""What a resource is: a function that fills one table of what each choice spends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from allocator import ResourceTable
from quantize import StorageFormat
from sensitivity.rows import Row
from sensitivity.study.study import Study


@dataclass(frozen=True)
class Spent:
    """A filled table and what should be known about it.

    Attributes:
        table: (L, F) over all rows of the study.
        note: What the numbers were counted or measured on.
        reasons: (row, format) to why that entry is null.
    """

    table: ResourceTable
    note: str = ""
    reasons: Mapping[tuple[str, str], str] = field(default_factory=dict)


class Resource(Protocol):
    """A resource is a function in a module of its own; see CONTRIBUTING.md."""

    def __call__(self, study: Study) -> Spent:
        """Fill one (L, F) table."""
        ...


def filled(study: Study, entry: Callable[[Row, StorageFormat], float]) -> tuple[tuple[float, ...], ...]:
    """Ask for every entry of a table.

    Args:
        entry: What one row spends in one format.

    Returns:
        (L, F) values.
    """
    return tuple(tuple(float(entry(row, fmt)) for fmt in study.formats) for row in study.rows)
