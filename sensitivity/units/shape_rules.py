"""Which formats the shape of a row rules out, and why.

A rule is a function from a shape and a format to a reason, or None where the format fits. What a rule refuses is null
in every table of the profile, and the reason is noted in its provenance. The reference rounding pads the last group of
a row, so without rules every format fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize import StorageFormat
from quantize.formats import flat_shape
from quantize.runtimes import RUNTIMES, Kind, kind_of_name, objections
from sensitivity.forward.forward_pass import forward_pass
from sensitivity.models.layers import LayerRef
from sensitivity.rows import ActivationRef, CacheRef, Row, weight_shape
from sensitivity.study.study import Study
from sensitivity.units.own_formats import unstorable


@dataclass(frozen=True)
class Shape:
    """What a rule looks at.

    Attributes:
        name: Row of the profile.
        widths: Lengths that groups run along: inputs of a weight, features of an activation, widths of keys and
            values; empty where that depends on the data.
        outputs: Outputs of a weight (entries of an Embedding); None for activations and caches.
        kind: What a runtime takes a weight for.
    """

    name: str
    widths: tuple[int, ...]
    outputs: int | None
    kind: Kind = "matrix"


class ShapeRule(Protocol):
    """Says why a format does not fit."""

    def __call__(self, shape: Shape, fmt: StorageFormat) -> str | None:
        """Give the reason, or None where the format fits."""
        ...


def group_divides(shape: Shape, fmt: StorageFormat) -> str | None:
    """Refuse groups that do not divide what they run along, as vLLM's loaders and torchao do.

    Returns:
        The reason, or None.

    Example:
        >>> from quantize import parse_format
        >>> group_divides(Shape("fc", (100,), 10), parse_format("int4-g64"))
        'groups of 64 do not divide 100'
    """
    size = fmt.group_size
    wrong = [width for width in shape.widths if size is not None and width % size]
    return f"groups of {size} do not divide {wrong[0]}" if wrong else None


def at_least(elements: int) -> ShapeRule:
    """Keep small weights out of integer formats.

    Args:
        elements: Least number of weights of a layer that may be narrowed.

    Returns:
        The rule; activations and caches are not concerned.

    Raises:
        InvalidInputError: ``elements`` is below one.
    """
    if elements < 1:
        raise InvalidInputError(Fault("/shape_rules", f"expected at least 1 element, got {elements}"))

    def rule(shape: Shape, fmt: StorageFormat) -> str | None:
        if fmt.floating or shape.outputs is None:
            return None
        held = shape.outputs * shape.widths[0]
        return f"has {held} weights, fewer than {elements}" if held < elements else None

    return rule


def multiples_of(inputs: int, outputs: int) -> ShapeRule:
    """Keep weights whose sizes a kernel does not tile out of integer formats.

    Args:
        inputs: Number that must divide the inputs of a weight.
        outputs: Number that must divide its outputs.

    Returns:
        The rule, e.g. ``multiples_of(128, 64)`` for Marlin kernels; activations and caches are not concerned.

    Raises:
        InvalidInputError: A number is below one.
    """
    if min(inputs, outputs) < 1:
        detail = f"expected multiples of at least 1, got {inputs} and {outputs}"
        raise InvalidInputError(Fault("/shape_rules", detail))

    def rule(shape: Shape, fmt: StorageFormat) -> str | None:
        if fmt.floating or shape.outputs is None:
            return None
        for what, size, step in (("inputs", shape.widths[0], inputs), ("outputs", shape.outputs, outputs)):
            if size % step:
                return f"{size} {what} are no multiple of {step}"
        return None

    return rule


def loadable(runtime: str) -> ShapeRule:
    """Refuse what a runtime does not load, by its table in :mod:`quantize.runtimes`.

    Returns:
        The rule; activations and caches are not concerned.

    Example:
        >>> from quantize import parse_format
        >>> loadable("onnxruntime")(Shape("fc", (1024,), 10), parse_format("int4-g512"))
        'onnxruntime: the operator has groups of 16, 32, 64, 128 and 256 weights'
    """
    table = RUNTIMES.find(runtime)

    def rule(shape: Shape, fmt: StorageFormat) -> str | None:
        if shape.outputs is None:
            return None
        found = objections(table, shape.kind, (shape.outputs, shape.widths[0]), fmt)
        errors = (item for item in found if item.severity == "error")
        return next((f"{runtime}: {item.detail}" for item in errors), None)

    return rule


#: Rules that come with units.
RULES_OF_UNITS: Mapping[str, tuple[ShapeRule, ...]] = {"vllm": (group_divides, loadable("vllm"))}
#: Units that are those of a runtime → the runtime.
RUNTIME_OF_UNITS: Mapping[str, str] = {"vllm": "vllm"}


def unfit(study: Study, rules: Sequence[ShapeRule]) -> dict[tuple[str, str], str]:
    """Find what the rules refuse, and what formats of their own do.

    Args:
        rules: The rules; the first that refuses gives the reason.

    Returns:
        (row, format) → reason.

    Raises:
        InvalidInputError: A row is left without a format; names each with its reasons.
    """
    refused: dict[tuple[str, str], str] = {}
    faults = []
    own = any(fmt.codec is not None for fmt in study.formats)
    for row in study.rows if rules or own else ():
        shape = _shape(row, study)
        reasons = {
            fmt.name: unstorable(row, shape.widths, fmt) or _first(rules, shape, fmt) for fmt in study.formats
        }
        if None not in reasons.values():
            told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            detail = f"no format fits: {told}; add one that does, such as fp16, or exclude the row"
            faults.append(Fault(pointer(("layers", row.name)), detail))
        refused |= {(row.name, name): reason for name, reason in reasons.items() if reason is not None}
    if faults:
        raise InvalidInputError(*faults)
    return refused


def kind_of_weight(row: Row) -> Kind:
    """Tell what a runtime takes a weight for, from the modules that use it.

    Returns:
        ``embedding`` where a weight is looked up, also where it is multiplied with as well; else ``convolution``,
        ``head`` or ``matrix``.
    """
    modules = row.modules if isinstance(row, LayerRef) else ()
    if any(isinstance(module, nn.Embedding) for module in modules):
        return "embedding"
    if any(isinstance(module, nn.Conv1d | nn.Conv2d) for module in modules):
        return "convolution"
    return "head" if kind_of_name(row.name) == "head" else "matrix"


def _first(rules: Sequence[ShapeRule], shape: Shape, fmt: StorageFormat) -> str | None:
    return next((reason for rule in rules if (reason := rule(shape, fmt)) is not None), None)


def _shape(row: Row, study: Study) -> Shape:
    shape = weight_shape(row)
    if shape is not None:
        outputs, inputs = flat_shape(shape)
        return Shape(row.name, (inputs,), outputs, kind_of_weight(row))
    if isinstance(row, CacheRef):
        cache = forward_pass(study).caches.get(row.name)
        return Shape(row.name, () if cache is None else cache.widths, None)
    assert isinstance(row, ActivationRef)
    width = (row.module.in_features,) if isinstance(row.module, nn.Linear) else ()
    return Shape(row.name, width, None)
