"""How a plan compares with uniform at its bytes, by every cost table of the profile and not only by its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from allocator.answer.notes.planned import Planned
from allocator.contract.note import Note
from allocator.knapsack.problem import IntArray
from allocator.knapsack.tables import WEIGHT_BYTES

#: From this factor on, another table contradicts the plan.
_WORSE = 1.1


def uniform_notes(planned: Planned) -> tuple[Note, ...]:
    """Hold a plan against the best uniform one within its bytes: those of its budget, or else those that it takes.

    Returns:
        A warning for each table by which uniform is better, and one note about the others; none where no uniform plan
        is as small, or nothing was left to choose.
    """
    fitting = _fitting(planned) if (planned.compiled.allowed.sum(axis=1) > 1).any() else {}
    if not fitting:
        return ()
    found = [made for name in planned.profile.costs if (made := _compare(planned, name, fitting)) is not None]
    warnings = [Note(about="uniform", severity="warning", text=item.text) for item in found if item.worse]
    good = [item.text for item in found if not item.worse]
    return (*warnings, Note(about="uniform", text="; ".join(good))) if good else tuple(warnings)


@dataclass(frozen=True)
class _Comparison:
    text: str
    worse: bool


def _fitting(planned: Planned) -> dict[str, IntArray]:
    rows = planned.compiled.rows
    tables = {row.table for row in rows if row.table in planned.profile.resources and row.table is not None}
    if WEIGHT_BYTES in planned.profile.resources:
        tables = {WEIGHT_BYTES}
    if not tables:
        return {}
    most = {name: _sum(planned, name, planned.columns) for name in tables}
    for row in rows:
        whole = len(row.layers) == len(planned.columns) and len(row.formats) == len(planned.profile.formats)
        if row.table in most and row.high is not None and whole and not row.peak:
            most[row.table] = max(most[row.table], row.high - row.constant)
    return {
        name: columns
        for name, columns in planned.uniform.items()
        if all(_sum(planned, table, columns) <= amount * (1 + 1e-12) for table, amount in most.items())
    }


def _sum(planned: Planned, name: str, columns: IntArray) -> float:
    return float(planned.entries(name, columns).sum())


def _compare(planned: Planned, name: str, fitting: dict[str, IntArray]) -> _Comparison | None:
    maximise = planned.profile.costs[name].better == "higher"
    sign = -1.0 if maximise else 1.0
    own = _sum(planned, name, planned.columns)
    sums = {fmt: _sum(planned, name, columns) for fmt, columns in fitting.items()}
    sums = {fmt: value for fmt, value in sums.items() if np.isfinite(value)}
    if not sums or not np.isfinite(own):
        return None
    best = min(sums, key=lambda fmt: sign * sums[fmt])
    other, beside = sums[best], f"uniform {best}{_share(planned, fitting[best])}"
    if maximise or own <= 0 or other <= 0:
        worse = sign * own > sign * other
        word = "worse" if worse else "no worse"
        text = f"by {name!r} this plan ({own:.4g}) is {word} than {beside} ({other:.4g})"
        return _Comparison(text, worse and (maximise or other > 0))  # sums below zero are no evidence
    ratio = own / other
    if f"{ratio:.3g}" == "1":
        return _Comparison(f"by {name!r} this plan is as good as {beside}", False)
    if ratio > 1:
        return _Comparison(f"by {name!r} this plan is {ratio:.3g} × worse than {beside}", ratio > _WORSE)
    return _Comparison(f"by {name!r} {beside} is {1 / ratio:.3g} × worse than this plan", False)


def _share(planned: Planned, columns: IntArray) -> str:
    if WEIGHT_BYTES not in planned.profile.resources:
        return ""
    own = _sum(planned, WEIGHT_BYTES, planned.columns)
    return f" in {_sum(planned, WEIGHT_BYTES, columns) / own:.1%} of its bytes" if own > 0 else ""
