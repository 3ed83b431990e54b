"""The rows of a profile that is made for a runtime: only what its loader takes, per kind of layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.runtimes import RUNTIMES
from sensitivity.models.layers import LayerRef
from sensitivity.rows import Row
from sensitivity.units.shape_rules import RUNTIME_OF_UNITS, ShapeRule, kind_of_weight, loadable
from sensitivity.units.unit_rules import UnitRule


@dataclass(frozen=True)
class RuntimeRows:
    """What a runtime makes of the rows of a model.

    Attributes:
        layers: Weights that it can load quantized.
        rules: What it refuses of them.
        notes: For the provenance: the runtime, and why a layer has no row.
    """

    layers: tuple[LayerRef, ...]
    rules: tuple[ShapeRule, ...]
    notes: Mapping[str, str]


def runtime_rows(
    layers: tuple[LayerRef, ...], others: Sequence[Row], runtime: str | None, units: str | UnitRule
) -> RuntimeRows:
    """Keep the rows that a runtime can load quantized.

    Args:
        runtime: Who is to load the plan; None for nobody in particular.
        units: Rule for units; that of a runtime stands for the runtime.

    Returns:
        The rows, with what the runtime refuses of them.

    Raises:
        InvalidInputError: The runtime is unknown, or quantizes no row of the model.
    """
    chosen = runtime or (RUNTIME_OF_UNITS.get(units) if isinstance(units, str) else None)
    if chosen is None:
        return RuntimeRows(layers, (), {})
    table = RUNTIMES.find(chosen)
    stay = {
        layer.name: table.stays[kind] for layer in layers if (kind := kind_of_weight(layer)) in table.stays
    }
    kept = tuple(layer for layer in layers if layer.name not in stay)
    if layers and not kept and not others:
        detail = f"{chosen} quantizes none of its layers: {next(iter(stay.values()))}"
        raise InvalidInputError(Fault("/model", detail))
    notes = {pointer(("layers", name)): f"has no row: {chosen}: {reason}" for name, reason in stay.items()}
    return RuntimeRows(kept, (loadable(chosen),), {"/runtime": chosen} | notes)
