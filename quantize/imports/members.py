"""Which weights of a checkpoint a row of scores is about: a layer, a whole module, or all experts of a block."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from quantize.fused import expert_blocks

Shape = tuple[int, ...]
#: Names of projections beside those that checkpoints have: Mixtral's.
_PROJECTIONS = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
_STACK = re.compile(r"(.+)\.(?:switch_mlp|experts)\.(\w+)")


@dataclass(frozen=True)
class Members:
    """Weights by name, and what several of them are together.

    Attributes:
        shapes: Layer → shape of its weight.
        stacks: Stack of experts (``….experts.*.<projection>``) → its layers.
    """

    shapes: Mapping[str, Shape]
    stacks: Mapping[str, tuple[str, ...]]


def members_of(shapes: Mapping[str, Shape]) -> Members:
    """Prepare the weights of a checkpoint for look-ups.

    Args:
        shapes: Layer → shape of its weight.

    Returns:
        The weights and their stacks.
    """
    return Members(shapes, expert_blocks(shapes, by_projection=True))


def weights_of(name: str, members: Members, names: Mapping[str, Sequence[str]] | None = None) -> list[Shape]:
    """Find the weights that a name is about.

    Args:
        name: A layer, or a stack of experts as MLX (``….switch_mlp.up_proj``) or the checkpoint names it.
        names: Another tool's name → layers, where its rule does not give them.

    Returns:
        Their shapes; none where the checkpoint has no such weight.

    Example:
        >>> shapes = {f"mlp.experts.{index}.up_proj": (8, 4) for index in (0, 1)}
        >>> weights_of("mlp.switch_mlp.up_proj", members_of(shapes))
        [(8, 4), (8, 4)]
    """
    if names and name in names:
        return [members.shapes[layer] for layer in names[name] if layer in members.shapes]
    if name in members.shapes:
        return [members.shapes[name]]
    found = _STACK.fullmatch(name)
    if found is None:
        return []
    block, projection = found[1], found[2]
    for part in (projection, _PROJECTIONS.get(projection)):
        layers = members.stacks.get(f"{block}.experts.*.{part}", ())
        if layers:
            return [members.shapes[layer] for layer in layers]
    return _in_one(block, projection, members)


def _in_one(block: str, projection: str, members: Members) -> list[Shape]:
    # All experts in one parameter; both halves of gate_up_proj, of whatever order, have as many weights.
    whole = members.shapes.get(f"{block}.experts.{projection}")
    if whole is not None:
        return [whole[1:]] * whole[0]
    both = members.shapes.get(f"{block}.experts.gate_up_proj")
    if both is None or projection not in {"gate_proj", "up_proj"} or len(both) != 3:
        return []
    rows, row = _along_inputs(both, members.shapes.get(f"{block}.experts.down_proj"))
    return [(rows // 2, row)] * both[0]


def _along_inputs(both: Shape, down: Shape | None) -> tuple[int, int]:
    # A checkpoint may store (experts, in, out) or (experts, out, in): the inputs are what down_proj gives out.
    _, first, second = both
    if down is not None and first in down[1:] and second not in down[1:]:
        return second, first
    return first, second


def module_weights(module: str, projections: Iterable[str], members: Members) -> list[Shape]:
    """Find the weights of the projections of a module.

    Args:
        module: Path of the module.
        projections: Names of its projections, of experts with or without their number (``w1``, ``w1.3``).

    Returns:
        Their shapes, at any depth below the module.

    Example:
        >>> found = members_of({"l.0.mlp.up_proj": (8, 4), "l.0.mlp.gate": (2, 4), "l.10.mlp.up_proj": (1, 1)})
        >>> module_weights("l.0.mlp", ["up_proj"], found)
        [(8, 4)]
    """
    ends = {name.rstrip("0123456789").rstrip(".") if "." in name else name for name in projections}
    return [
        shape
        for layer, shape in members.shapes.items()
        if layer.startswith(f"{module}.") and layer.rpartition(".")[2] in ends
    ]


def count(shapes: Iterable[Shape]) -> int:
    """Return how many weights shapes hold together."""
    return sum(math.prod(shape) for shape in shapes)
