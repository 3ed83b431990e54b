"""Rows: everything in a model that takes a format.

To add a kind of row: write ``sensitivity/rows/<kind>.py`` with a frozen dataclass that has a ``name``, a function that
finds such rows and a context manager that applies a format, and name them in the functions of this file and in
:func:`sensitivity.study.applied.applied`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from torch import nn

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer, unknown
from allocator.contract.patterns import matching
from quantize import StorageFormat
from sensitivity.models.layers import LayerRef, discover, quantizable
from sensitivity.rows.activations import ActivationRef, find_activations, rounding_input
from sensitivity.rows.experts import ExpertRef, find_experts, replacing_expert
from sensitivity.rows.kv_cache import CacheRef, find_caches, rounding_cache

__all__ = [
    "KINDS",
    "ActivationRef",
    "CacheRef",
    "ExpertRef",
    "LayerRef",
    "Row",
    "find_rows",
    "kind_of",
    "modules_of",
    "weight_shape",
    "StorageFormat",
    "rounding_input",
    "replacing_expert",
    "rounding_cache",
]

#: Anything that takes a format.
Row: TypeAlias = LayerRef | ExpertRef | ActivationRef | CacheRef
#: What can be asked for.
KINDS = ("weight", "expert", "activation", "kv_cache")


def kind_of(row: Row) -> Literal["weight", "activation", "kv_cache"]:
    """Return what a row is in the words of a Profile."""
    if isinstance(row, ActivationRef):
        return "activation"
    return "kv_cache" if isinstance(row, CacheRef) else "weight"


def modules_of(row: Row) -> tuple[nn.Module, ...]:
    """Find the modules that compute differently where a row has another format.

    Returns:
        The modules of a layer, else the one that the row belongs to.
    """
    return tuple(row.modules) if isinstance(row, LayerRef) else (row.module,)


def weight_shape(row: Row) -> tuple[int, ...] | None:
    """Return the shape of the weight that a row stores for good; None for activations and caches."""
    if isinstance(row, LayerRef):
        return tuple(row.weight.shape)
    return row.shape if isinstance(row, ExpertRef) else None


def find_rows(
    model: nn.Module, kinds: Sequence[str], exclude: Sequence[str] = ()
) -> tuple[tuple[LayerRef, ...], tuple[Row, ...]]:
    """Find the rows of a model.

    Args:
        kinds: Which of :data:`KINDS`.
        exclude: Names or globs of rows to leave in full precision. A layer that stays out keeps its input as well.

    Returns:
        The weight rows that estimators see as layers, and all others, in the order of :data:`KINDS`.

    Raises:
        InvalidInputError: A kind is unknown or absent from the model, a pattern matches nothing, or nothing is left.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> layers, others = find_rows(model, ["weight", "activation"], exclude=["2.input"])
        >>> [row.name for row in (*layers, *others)]
        ['0', '2', '0.input']
    """
    _require_kinds(kinds)
    layers = discover(model)
    found: Mapping[str, Sequence[Row]] = {
        "expert": find_experts(model) if "expert" in kinds else (),
        "activation": find_activations(model, layers) if "activation" in kinds else (),
        "kv_cache": find_caches(model) if "kv_cache" in kinds else (),
    }
    absent = [kind for kind in kinds if kind != "weight" and not found[kind]]
    if absent:
        detail = f"{type(model).__name__} has no rows of kind {absent[0]!r}; leave the kind out"
        raise InvalidInputError(Fault("/rows", detail))
    others = [row for kind in KINDS[1:] for row in found[kind]]
    weights, dropped = _split(exclude, list(quantizable(model)), [row.name for row in others])
    if weights:
        layers = discover(model, weights)
    kept = {layer.name for layer in layers}
    others = [
        row
        for row in others
        if row.name not in dropped and not (isinstance(row, ActivationRef) and row.layer not in kept)
    ]
    return (layers if "weight" in kinds else ()), tuple(others)


def _require_kinds(kinds: Sequence[str]) -> None:
    if not kinds or len(set(kinds)) != len(kinds):
        raise InvalidInputError(Fault("/rows", f"expected distinct kinds of rows, got {list(kinds)}"))
    for kind in kinds:
        if kind not in KINDS:
            raise InvalidInputError(Fault("/rows", unknown(kind, KINDS, "kind of row")))


def _split(
    patterns: Sequence[str], layers: Sequence[str], others: Sequence[str]
) -> tuple[list[str], set[str]]:
    # Patterns for layers go to `discover`, which knows about tied weights; the other rows are dropped here.
    weights, dropped = [], set()
    for index, pattern in enumerate(patterns):
        try:
            matched = {(*layers, *others)[match] for match in matching(pattern, [*layers, *others])}
        except ValueError as error:
            raise InvalidInputError(Fault(pointer(("exclude", index)), str(error))) from error
        if matched & set(layers):
            weights.append(pattern)
        dropped |= matched & set(others)
    return weights, dropped
