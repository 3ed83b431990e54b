"""Standard errors that make a choice arbitrary."""

from __future__ import annotations

import numpy as np

from allocator.answer.notes.planned import Planned
from allocator.contract.note import Note
from allocator.knapsack.problem import FloatArray, IntArray

#: Standard errors within which two sums do not differ.
_STEPS = 2.0


def noise_notes(planned: Planned) -> tuple[Note, ...]:
    """Say where the noise of an objective leaves the choice open.

    A layer's choice is open where a format that no resource of the request charges more for costs the same within the
    standard error of the difference. The plan as a whole is open where it does not differ from a uniform plan by two
    standard errors, with entries taken as independent.

    Returns:
        A warning where half of the choices, or the plan as a whole, are open; a note where some choices are; none
        without standard errors.
    """
    tables = {name: planned.errors(name) for name in planned.objective_tables}
    if not tables or any(errors is None for errors in tables.values()):
        return ()
    weights = planned.objective_tables
    values = sum((weights[name] * planned.values(name) for name in tables), np.zeros(1))
    squares = sum(
        (weights[name] ** 2 * errors**2 for name, errors in tables.items() if errors is not None), np.zeros(1)
    )
    open_, free = _open_choices(planned, values, squares)
    found = []
    if open_:
        text = (
            f"{open_} of {free} layers could have a format that spends no more and costs the same within its standard "
            "error: their formats are chosen by noise (`explain --resamples` says which)"
        )
        severity = "warning" if 2 * open_ >= free else "note"
        found.append(Note.model_validate({"about": "noise", "severity": severity, "text": text}))
    if same := _same_as_uniform(planned, values, squares):
        text = f"the plan does not differ from uniform {same} by two standard errors of its table: measure on more data"
        found.append(Note(about="noise", severity="warning", text=text))
    return tuple(found)


def _open_choices(planned: Planned, values: FloatArray, squares: FloatArray) -> tuple[int, int]:
    layers, columns = np.arange(len(planned.columns)), planned.columns
    spends = [
        planned.values(row.table)
        for row in planned.compiled.rows
        if row.table in planned.profile.resources and row.table is not None
    ]
    allowed = planned.compiled.allowed.copy()
    free = allowed.sum(axis=1) > 1
    allowed[layers, columns] = False
    for spend in spends:
        allowed &= spend <= spend[layers, columns][:, None]
    apart = np.abs(values - values[layers, columns][:, None])
    error = np.sqrt(squares + squares[layers, columns][:, None])
    with np.errstate(invalid="ignore"):
        near = allowed & (apart < error)
    return int((near.any(axis=1) & free).sum()), int(free.sum())


def _same_as_uniform(planned: Planned, values: FloatArray, squares: FloatArray) -> str | None:
    layers, columns = np.arange(len(planned.columns)), planned.columns
    found = {}
    for name, other in planned.uniform.items():
        differ = columns != other
        if not differ.any() or not _spends_no_more(planned, other):
            continue
        gained = float((values[layers, other] - values[layers, columns])[differ].sum())
        noise = float((squares[layers, other] + squares[layers, columns])[differ].sum()) ** 0.5
        if 0 <= gained < _STEPS * noise:
            found[name] = gained
    return min(found, key=lambda name: found[name]) if found else None


def _spends_no_more(planned: Planned, columns: IntArray) -> bool:
    return all(
        planned.entries(row.table, columns).sum() <= planned.entries(row.table, planned.columns).sum()
        for row in planned.compiled.rows
        if row.table is not None and row.table in planned.profile.resources
    )
