"""The interface between what a row does and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from quantize import StorageFormat
from sensitivity.rows.forward_pass import Call


@dataclass(frozen=True)
class RowWork:
    """What one row does in one pass.

    Attributes:
        name: Row of the profile.
        shape: Shape of its weight; None for a KV cache.
        calls: Its uses, at the batch size that is asked about.
    """

    name: str
    shape: tuple[int, ...] | None
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Timing:
    """How long a row takes in a format.

    Attributes:
        median_us: Microseconds.
        spread_us: Half the range of the middle half of the measurements; 0 where nothing was measured.
    """

    median_us: float
    spread_us: float = 0.0


@dataclass(frozen=True)
class Latencies:
    """What a source answers.

    Attributes:
        entries: (L, F) timings, or the reason why there is none.
        constant_us: Paid once per pass.
        note: What the figures stand on.
    """

    entries: tuple[tuple[Timing | str, ...], ...]
    constant_us: float
    note: str


class LatencySource(Protocol):
    """A source is a function in a module of its own."""

    def __call__(self, works: Sequence[RowWork], formats: Sequence[StorageFormat]) -> Latencies:
        """Say how long every row takes in every format."""
        ...
