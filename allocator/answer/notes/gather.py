"""All notes on an answer, within its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allocator.answer.notes.by_other_tables import uniform_notes
from allocator.answer.notes.comparison import comparison_notes
from allocator.answer.notes.coverage import coverage_notes
from allocator.answer.notes.loss import loss_notes
from allocator.answer.notes.negative_entries import negative_notes
from allocator.answer.notes.noise import noise_notes
from allocator.answer.notes.pins import pin_notes
from allocator.answer.notes.planned import Planned
from allocator.contract.note import Note
from allocator.contract.request import Request
from allocator.knapsack.compile import Compiled
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import IntArray

#: What to look for, by the name that is said where the time did not suffice; the dearest comes last.
_SOURCES: dict[str, Callable[[Planned], tuple[Note, ...]]] = {
    "comparison of layers": comparison_notes,
    "negative entries": negative_notes,
    "tolerable loss": loss_notes,
    "comparison with uniform": uniform_notes,
    "standard errors": noise_notes,
    "what pins cost": pin_notes,
}


def beside(compiled: Compiled, request: Request, choice: IntArray | None, seconds: float) -> dict[str, Any]:
    """The fields of an answer that are not about the plan's numbers.

    Args:
        choice: (U,) the plan, certified; None where there is none.
        seconds: What was spent of the time limit already.

    Returns:
        ``notes`` and ``identity``.
    """
    return {
        "notes": notes_of(compiled, request, choice, seconds),
        "identity": compiled.profile.identity,
    }


def notes_of(
    compiled: Compiled, request: Request, choice: IntArray | None, seconds: float
) -> tuple[Note, ...]:
    """Collect what a reader should know beside the plan.

    Args:
        choice: (U,) the plan; None where there is none.
        seconds: What was spent of the time limit already.

    Returns:
        Notes and warnings; what there was no time for is named.
    """
    found = list(coverage_notes(compiled.profile))
    if choice is None:
        return tuple(found)
    limit_s = request.time_limit_s
    deadline = Deadline(None if limit_s is None else max(limit_s - seconds, 0.0))
    planned = Planned(compiled, request, choice, seconds, deadline)
    late = []
    for name, source in _SOURCES.items():
        if deadline.passed():
            late.append(name)
        else:
            found.extend(source(planned))
    if late:
        found.append(Note(about="time", text=f"not looked at within the time limit: {', '.join(late)}"))
    return tuple(found)
