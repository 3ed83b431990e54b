"""The slow, obvious answer to a request: every plan of a small profile, with every way to fuse it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Document = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """Objective of the best plan, and how many plans keep the limits."""

    objective: float
    plans: int


def best_plan(profile: Document, request: Document) -> Answer | None:
    """Enumerate; None where no plan keeps the limits. Tables of integers only, so that sums are exact."""
    formats, layers = list(profile["formats"]), [layer["name"] for layer in profile["layers"]]
    plans = np.indices([len(formats)] * len(layers)).reshape(len(layers), -1).T  # (N, L)
    plans = plans[_kept_units(profile, plans)]
    found: list[Answer] = []
    for fused in _disjoint(profile.get("fusions", [])):
        alike = np.ones(len(plans), dtype=bool)
        for fusion in fused:
            members = [layers.index(name) for name in fusion["layers"]]
            alike &= (plans[:, members] == plans[:, members[:1]]).all(axis=1)
        kept = plans[alike]
        tables = {
            name: _entries(profile, name, kept, fused)
            for name in {**profile["costs"], **profile["resources"]}
        }
        valid = np.ones(len(kept), dtype=bool)
        for name, amount in request.get("budgets", {}).items():
            valid &= _combined(profile, name, tables[name], whole=True) <= amount
        for limit in request.get("limits", []):
            rows = [at for at, name in enumerate(layers) if _fits(name, limit.get("layers", ["*"]))]
            columns = [at for at, name in enumerate(formats) if _fits(name, limit.get("formats", ["*"]))]
            inside = np.isin(kept, columns)
            inside &= np.isin(np.arange(len(layers)), rows)
            table = np.ones(kept.shape) if limit.get("table") is None else tables[limit["table"]]
            whole = len(rows) == len(layers) and len(columns) == len(formats)
            amount = _combined(profile, limit.get("table"), np.where(inside, table, 0.0), whole=whole)
            valid &= (amount <= limit.get("max", np.inf)) & (amount >= limit.get("min", -np.inf))
        objective = sum(weight * _total(tables[name]) for name, weight in request["objective"].items())
        valid &= ~np.isnan(objective)
        if valid.any():
            found.append(Answer(float(objective[valid].min()), int(valid.sum())))
    if not found:
        return None
    return Answer(min(item.objective for item in found), sum(item.plans for item in found))


def _kept_units(profile: Document, plans: NDArray[np.int64]) -> NDArray[np.bool_]:
    kept = np.ones(len(plans), dtype=bool)
    units: dict[str, list[int]] = {}
    for at, layer in enumerate(profile["layers"]):
        if "unit" in layer:
            units.setdefault(layer["unit"], []).append(at)
    for members in units.values():
        kept &= (plans[:, members] == plans[:, members[:1]]).all(axis=1)
    return kept


def _disjoint(fusions: Sequence[Document]) -> Iterator[tuple[Document, ...]]:
    for count in range(len(fusions) + 1):
        for chosen in combinations(fusions, count):
            members = [name for fusion in chosen for name in fusion["layers"]]
            if len(set(members)) == len(members):
                yield chosen


def _entries(
    profile: Document, name: str, plans: NDArray[np.int64], fused: Sequence[Document]
) -> NDArray[np.float64]:
    """(N, L) entries of a table; a fused kernel counts at its first layer."""
    table = {**profile["costs"], **profile["resources"]}[name]
    values = np.array(table["values"], dtype=float)
    entries = values[np.arange(len(values)), plans]
    index = {layer["name"]: at for at, layer in enumerate(profile["layers"])}
    for fusion in fused:
        if name in fusion["resources"]:
            members = [index[layer] for layer in fusion["layers"]]
            spent = np.array(fusion["resources"][name], dtype=float)[plans[:, members[0]]]
            # A kernel takes the place of its layers, but cannot stand in for entries that they lack.
            lacking = np.isnan(entries[:, members]).any(axis=1)
            entries[:, members] = 0.0
            entries[:, members[0]] = np.where(lacking, np.nan, spent)
    return entries


def _total(entries: NDArray[np.float64]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = entries.sum(axis=1)
    return total


def _combined(
    profile: Document, name: str | None, entries: NDArray[np.float64], *, whole: bool
) -> NDArray[np.float64]:
    """(N,) what a table adds up to; its constant counts where the whole table is in scope."""
    table = profile["resources"].get(name, {})
    peak = table.get("combine") == "max"
    amount: NDArray[np.float64] = entries.max(axis=1) if peak else entries.sum(axis=1)
    return amount + (table.get("constant", 0.0) if whole else 0.0)


def _fits(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
