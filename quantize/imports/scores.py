"""Scores by layer and format, and the profile they make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from allocator import CostTable, Profile, Provenance, ResourceTable
from allocator import Format as ProfileFormat
from allocator import Layer as ProfileLayer

Pair = tuple[str, str]


@dataclass(frozen=True)
class Request:
    """What an importer gets.

    Attributes:
        paths: The files.
        formats: Formats to give the scores, for files that do not name them.
        model: Folder with a checkpoint, for files that need sizes or weights.
        names: The tool's own name → layers of the checkpoint, where its rule does not give them.
    """

    paths: tuple[Path, ...]
    formats: tuple[str, ...] = ()
    model: Path | None = None
    names: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True)
class Scores:
    """What another tool measured.

    Attributes:
        name: Name of the cost table.
        meaning: What a cost is.
        formats: Columns, in order.
        layers: Rows, in order: name → number of weights, where known.
        costs: Layer and format → cost; absent where it was not measured.
        stored_bytes: Layer and format → bytes.
        units: Layer → unit, where layers share a format.
        source: Tool, for the provenance.
        notes: What was left out or filled in, JSON pointer → text.
        members: Row → layers of the checkpoint that it is about, where that is more than its name says.
    """

    name: str
    meaning: str
    formats: Mapping[str, ProfileFormat]
    layers: Mapping[str, int | None]
    costs: Mapping[Pair, float]
    stored_bytes: Mapping[Pair, float]
    units: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Sequence[str]] = field(default_factory=dict)


def some(names: Sequence[str], most: int = 8) -> str:
    """The first of some names, and how many more there are.

    Args:
        most: How many to show.

    Returns:
        One line.

    Example:
        >>> some(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def profile_of(scores: Scores, model: str) -> Profile:
    """Make a profile of scores.

    Args:
        model: Name of the model, for people.

    Returns:
        The profile; pairs that were not measured cannot be chosen.
    """
    costs = _table(scores, scores.costs)
    resources = _table(scores, scores.stored_bytes)
    return Profile(
        model=model,
        formats=dict(scores.formats),
        layers=tuple(
            ProfileLayer(name=layer, parameters=count, unit=scores.units.get(layer))
            for layer, count in scores.layers.items()
        ),
        costs={scores.name: CostTable(values=costs, meaning=scores.meaning)} if scores.costs else {},
        resources={"weight_bytes": ResourceTable(values=resources, unit="byte")}
        if scores.stored_bytes
        else {},
        provenance=Provenance(
            versions={"scores": scores.source} if scores.source else {}, notes=dict(scores.notes)
        ),
    )


def whole_bytes(bits: float) -> int:
    """Bits as bytes.

    Args:
        bits: Number of bits.

    Returns:
        Bytes that hold them.
    """
    return math.ceil(bits / 8)


def _table(scores: Scores, values: Mapping[Pair, float]) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(values.get((layer, column)) for column in scores.formats) for layer in scores.layers)
