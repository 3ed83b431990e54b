"""Which rows share one format because a runtime keeps them together, or because they read the same numbers.

================  =====================================================================================================
units             rows that share a format
================  =====================================================================================================
``none``          none
``vllm``          what vLLM keeps in one format: query, key and value; gate and up; all experts of a block; all KV
                  caches, which have one ``kv_cache_dtype``
``shared_input``  layers that read the same tensor, and so the same quantized input: query, key and value, gate and up,
                  a downsampling convolution and the first convolution of its block
``tied_input``    a layer and its input, with all layers that read the same tensor: one width per operation (HAWQ)
================  =====================================================================================================

Tied weights are one row to begin with. A rule of one's own is a function from a study to ``{row: unit}``.

Source: vLLM, ``packed_modules_mapping`` of its model classes and ``FusedMoE``; Z. Yao et al., "HAWQ-V3", ICML 2021 (a
downsampling convolution reads the quantized input of its block).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer, unknown
from allocator.contract.registry import Registry
from quantize.fused import expert_blocks, fused_groups
from sensitivity.models.layers import LayerRef
from sensitivity.rows import ActivationRef, CacheRef
from sensitivity.study.study import Study


class UnitRule(Protocol):
    """Says which rows share a format."""

    def __call__(self, study: Study) -> Mapping[str, str]:
        """Map names of rows to names of units; rows that are left out decide for themselves."""
        ...


def alone(study: Study) -> Mapping[str, str]:
    """Let every row decide for itself.

    Args:
        study: Not looked at.

    Returns:
        No units.
    """
    del study
    return {}


def vllm(study: Study) -> Mapping[str, str]:
    """Keep together what vLLM fuses or knows one format for.

    Args:
        study: Its rows are looked at, by name.

    Returns:
        Row to unit; a fused name with one part in the profile makes no unit.
    """
    rows = [row.name for row in study.rows if not isinstance(row, ActivationRef)]
    units = {
        name: unit for unit, layers in (fused_groups(rows) | expert_blocks(rows)).items() for name in layers
    }
    units |= {row.name: "kv_cache" for row in study.others if isinstance(row, CacheRef)}
    return _shared(units)


def shared_input(study: Study) -> Mapping[str, str]:
    """Keep together the layers that read the same tensor in a pass over the first calibration batch.

    Returns:
        Row to unit, named after the first of its layers; inputs that are rows share a unit of their own.
    """
    readers = _readers(study)
    inputs = {row.layer: row.name for row in study.others if isinstance(row, ActivationRef)}
    units = {layer: f"{group[0]} and siblings" for group in readers for layer in group}
    units |= {
        inputs[layer]: f"input of {group[0]} and siblings"
        for group in readers
        for layer in group
        if layer in inputs
    }
    return _shared(units)


def tied_input(study: Study) -> Mapping[str, str]:
    """Keep each layer and its input together, with the layers that read the same tensor.

    Args:
        study: Model, data and rows of the kinds weight and activation.

    Returns:
        Row to unit, named after the first of its layers.
    """
    first = {layer: group[0] for group in _readers(study) for layer in group}
    units = {layer.name: first.get(layer.name, layer.name) for layer in study.layers}
    units |= {
        row.name: first.get(row.layer, row.layer) for row in study.others if isinstance(row, ActivationRef)
    }
    return _shared({row: f"{layer} with input" for row, layer in units.items()})


UNITS = Registry[UnitRule](
    "rule for units",
    {
        "none": alone,
        "vllm": vllm,
        "shared_input": shared_input,
        "tied_input": tied_input,
    },
    pointer="/units",
)


def units_of(units: str | UnitRule, study: Study) -> Mapping[str, str]:
    """Apply a rule and check what it says.

    Args:
        units: Name of a rule in :data:`UNITS`, or a rule.

    Returns:
        Row to unit.

    Raises:
        InvalidInputError: The rule is unknown, or names rows that do not exist or units that are not names.
    """
    rule = UNITS.find(units) if isinstance(units, str) else units
    found = rule(study)
    if not isinstance(found, Mapping):
        detail = f"expected a mapping from rows to units, got {type(found).__name__}"
        raise InvalidInputError(Fault("/units", detail))
    names = [row.name for row in study.rows]
    faults = [Fault(pointer(("units", row)), unknown(row, names, "row")) for row in found if row not in names]
    faults += [
        Fault(pointer(("units", row)), f"expected the name of a unit, got {unit!r}")
        for row, unit in found.items()
        if not isinstance(unit, str) or not unit
    ]
    if faults:
        raise InvalidInputError(*faults)
    return found


def _readers(study: Study) -> list[list[str]]:
    # Tensors are kept until the end so that no two of them can have had the same address.
    read: dict[tuple[int, ...], list[str]] = {}
    kept: list[Tensor] = []
    with ExitStack() as hooks, torch.no_grad():
        for layer in study.layers:
            for module in _multiplying(layer):

                def note(_: nn.Module, inputs: tuple[Any, ...], name: str = layer.name) -> None:
                    kept.append(inputs[0])
                    read.setdefault(_identity(inputs[0]), []).append(name)

                hooks.callback(module.register_forward_pre_hook(note).remove)
        study.loss_fn(study.model, study.batches[0])
    order = [layer.name for layer in study.layers]
    return [sorted(group, key=order.index) for group in _merged(list(read.values()))]


def _identity(tensor: Tensor) -> tuple[int, ...]:
    version = 0 if tensor.is_inference() else tensor._version  # changed in place: other numbers
    return (tensor.data_ptr(), version, *tensor.shape, *tensor.stride())


def _merged(groups: list[list[str]]) -> list[list[str]]:
    # A layer that runs twice may read with others each time; then all of them share.
    merged: list[list[str]] = []
    for group in groups:
        touching = [other for other in merged if set(other) & set(group)]
        joined = list(dict.fromkeys(name for part in (*touching, group) for name in part))
        merged = [other for other in merged if other not in touching] + [joined]
    return merged


def _multiplying(layer: LayerRef) -> list[nn.Module]:
    return [module for module in layer.modules if not isinstance(module, nn.Embedding)]


def _shared(units: Mapping[str, str]) -> Mapping[str, str]:
    counts: dict[str, int] = {}
    for unit in units.values():
        counts[unit] = counts.get(unit, 0) + 1
    return {row: unit for row, unit in units.items() if counts[unit] > 1}
