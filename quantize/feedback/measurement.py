"""What is measured of a plan, and where it is remembered."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from allocator import Fault, InvalidInputError
from quantize.storage.records import Records, opened

#: Layer name → format name; an empty plan is the original model.
Assignment = Mapping[str, str]


@dataclass(frozen=True)
class Measurement:
    """What a plan did when it was applied.

    Attributes:
        loss: How far it moved the model; lower is better.
        weight_bytes: Bytes that it really took.
        latency_us: Microseconds that a pass really took, a median.
    """

    loss: float
    weight_bytes: float | None = None
    latency_us: float | None = None


#: Applies a plan and measures it; a bare number is a loss.
Measure = Callable[[Assignment], "Measurement | float"]


@dataclass(frozen=True, eq=False)
class Measured:
    """Measures plans and remembers them.

    Attributes:
        measure: Applies and measures.
        records: Where measurements are kept; None to forget them.
    """

    measure: Measure
    records: Records | None = None

    def __call__(self, assignment: Assignment, again: int = 0) -> Measurement:
        """Measure a plan, or read what it measured before.

        Args:
            again: How many times it was measured before in this search.

        Returns:
            What it measured.

        Raises:
            InvalidInputError: The loss is not a number, or the file of records cannot be written.
        """
        address = (digest(assignment), *([str(again)] if again else []))
        if self.records is not None and address in self.records.found:
            loss, size, latency = self.records.found[address].tolist()
            return Measurement(loss, _known(size), _known(latency))
        found = self.measure(assignment)
        found = found if isinstance(found, Measurement) else Measurement(float(found))
        numbers = [found.loss, found.weight_bytes, found.latency_us]
        if not all(number is None or math.isfinite(number) for number in numbers):
            detail = f"expected finite numbers from the measurement of a plan, got {found}"
            raise InvalidInputError(Fault("/measure", detail))
        if self.records is not None:
            row = [math.nan if number is None else number for number in numbers]
            try:
                self.records.append(address, np.array(row))
            except OSError as error:
                detail = f"cannot be written: {error.strerror}; what was measured before is in it"
                raise InvalidInputError(Fault("/journal", detail)) from error
        return found


@contextmanager
def remembered(measure: Measure, journal: Path | None, run: Mapping[str, object]) -> Iterator[Measured]:
    """Open the journal of a search.

    Args:
        measure: Applies and measures.
        journal: The file, begun when absent; None for none.
        run: What tells one search from another; a journal of another one is refused.

    Yields:
        Measures plans that are not in the journal.
    """
    if journal is None:
        yield Measured(measure)
        return
    with opened(journal, run) as records:
        yield Measured(measure, records)


def digest(assignment: Assignment) -> str:
    """Return 64 hexadecimal digits that name a plan."""
    text = "\0".join(f"{layer}\0{name}" for layer, name in sorted(assignment.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number
