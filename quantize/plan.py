"""What backends apply: layer name → format, checked against the model before anything is touched."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from allocator import Allocation, Fault, InvalidInputError, Profile
from allocator.contract.allocation import PlanSource, load_plan
from allocator.contract.errors import pointer, unknown
from quantize.formats import StorageFormat
from quantize.fused import expert_blocks, fused_groups
from quantize.llama_types import formats_named
from quantize.rounding.nearest import Float32Array, refusal


def formats_of(plan: PlanSource) -> dict[str, StorageFormat]:
    """Read the formats of a plan.

    Args:
        plan: An allocation, its assignment, or the path of a JSON file of either.

    Returns:
        Layer name to format.

    Raises:
        InvalidInputError: The allocation holds no plan, or formats are unknown: one fault for each.
    """
    return formats_named(assignment_of(plan, "apply"))


def assignment_of(plan: PlanSource, what: str) -> dict[str, str]:
    """Read which layer has which format in a plan.

    Args:
        plan: An allocation, its assignment, or the path of a JSON file of either.
        what: What is to be done with it, for the message ("apply").

    Returns:
        Layer name to format name.

    Raises:
        InvalidInputError: It cannot be read, or the allocation holds no plan.
    """
    loaded = load_plan(plan)
    if not isinstance(loaded, Allocation):
        return loaded
    if loaded.assignment is None:
        detail = f"there is nothing to {what}: the allocation is {loaded.status.value}"
        raise InvalidInputError(Fault("/assignment", detail))
    return loaded.assignment


def require_layers(plan: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a plan that names layers the model does not have.

    Args:
        plan: Layer name to format.
        known: Names of the layers of the model.

    Raises:
        InvalidInputError: The plan was made for another model; every strange name is listed.
    """
    names = list(known)
    have = set(names)
    faults = [
        Fault(pointer(("assignment", layer)), unknown(layer, names, "layer"))
        for layer in plan
        if layer not in have
    ]
    if faults:
        raise InvalidInputError(*faults)


def require_whole_units(plan: Mapping[str, StorageFormat], known: Iterable[str]) -> None:
    """Refuse a plan that splits what runtimes make one layer of: fused projections, and experts of a block.

    Args:
        plan: Layer name to format.
        known: Names of the layers of the model.

    Raises:
        InvalidInputError: Layers of one unit have different formats, or only some of them have one; every such unit is
            named.
    """
    names = list(known)
    faults = []
    for unit, layers in (fused_groups(names) | expert_blocks(names)).items():
        formats = {layer: plan[layer].name if layer in plan else "nothing" for layer in layers}
        if len(set(formats.values())) > 1:
            shown = ", ".join(
                f"{layer.removeprefix(unit.rpartition('.')[0] + '.')} {name}"
                for layer, name in formats.items()
            )
            advice = "plan them as a unit, or name a runtime that fuses nothing"
            detail = f"these layers become one at load and need one format, got {shown}; {advice}"
            faults.append(Fault(pointer(("assignment", unit)), detail))
    if faults:
        raise InvalidInputError(*faults)


def profile_faults(
    plan: Mapping[str, StorageFormat], shapes: Mapping[str, Sequence[int]], profile: Profile | None
) -> list[Fault]:
    """Collect where a model is not the one that was profiled, and units that the plan splits.

    Args:
        plan: Layer name to format.
        shapes: Layer name to shape of its weight in the model.
        profile: What the plan was made from; None checks nothing.

    Returns:
        One fault per layer whose weights are not as many, and per layer that is apart from its unit.
    """
    if profile is None:
        return []
    faults = []
    units: dict[str, list[str]] = {}
    for row in profile.layers:
        if row.unit is not None:
            units.setdefault(row.unit, []).append(row.name)
        if row.name in plan and row.parameters not in {None, math.prod(shapes[row.name])}:
            shape = tuple(shapes[row.name])
            detail = f"the profile has {row.parameters} weights, the model {shape}; it is another model"
            faults.append(Fault(pointer(("assignment", row.name)), detail))
    for unit, layers in units.items():
        found = {layer: plan[layer].name if layer in plan else "nothing" for layer in layers}
        for layer in layers[1:]:
            if found[layer] != found[layers[0]]:
                first = f"{layers[0]!r} has {found[layers[0]]}"
                detail = f"unit {unit!r} shares one format; {first}, this layer {found[layer]}"
                faults.append(Fault(pointer(("assignment", layer)), detail))
    return faults


def no_code_for(fmt: StorageFormat, backend: str) -> str | None:
    """Say that a backend does not store a format that brings functions of its own, or that only other tools have.

    Args:
        fmt: A format.
        backend: Name of the backend.

    Returns:
        The reason; None for the formats that all of this library knows.
    """
    if fmt.codec is None and fmt.block_size is None:
        return None
    kind = "a type of llama.cpp" if fmt.block_size is not None else "a format of its own"
    return f"the {backend} backend has no code for {fmt.name}, which is {kind}; choose another for this layer"


def faults_at(layer: str, weight: Float32Array, fmt: StorageFormat, unsupported: str | None) -> list[Fault]:
    """Collect why a layer cannot be stored as planned.

    Args:
        unsupported: Why the backend cannot run the format here, if it cannot.

    Returns:
        No fault, or one that points at the layer.
    """
    reason = unsupported or refusal(weight, fmt)
    return [] if reason is None else [Fault(pointer(("assignment", layer)), reason)]
