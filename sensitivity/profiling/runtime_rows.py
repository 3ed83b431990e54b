"""The rows of a profile that is made for a runtime: only what its loader takes, per kind of layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.lint.model import model_of_folder
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
        kept: Layer that stays as it is → why, in a few words.
    """

    layers: tuple[LayerRef, ...]
    rules: tuple[ShapeRule, ...]
    notes: Mapping[str, str]
    kept: Mapping[str, str]


def require_loadable(runtime: str | None, checkpoint: Path | None) -> None:
    """Refuse to measure for a runtime that loads no quantized weights of such a model.

    Args:
        runtime: Who is to load the plan; None for nobody in particular.
        checkpoint: Folder that the model was loaded from; None where that is not known.

    Raises:
        InvalidInputError: The runtime does not load it; says why.
    """
    if runtime is None or checkpoint is None or not any(checkpoint.glob("*.safetensors")):
        return
    known = model_of_folder(checkpoint)
    reason = RUNTIMES.find(runtime).unloadable(known.kind, tuple(known.shapes))
    if reason is not None:
        raise InvalidInputError(Fault("/model", f"{reason}; profile for another runtime"))


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
        return RuntimeRows(layers, (), {}, {})
    table = RUNTIMES.find(chosen)
    kinds = {layer.name: kind_of_weight(layer) for layer in layers}
    stay = {name: table.stays[kind] for name, kind in kinds.items() if kind in table.stays}
    words = {name: f"{kinds[name]}s, which {chosen} keeps in floating point" for name in stay}
    kept = tuple(layer for layer in layers if layer.name not in stay)
    if layers and not kept and not others:
        detail = f"{chosen} quantizes none of its layers: {next(iter(stay.values()))}"
        raise InvalidInputError(Fault("/model", detail))
    notes = {pointer(("layers", name)): f"has no row: {chosen}: {reason}" for name, reason in stay.items()}
    return RuntimeRows(kept, (loadable(chosen),), {"/runtime": chosen} | notes, words)
