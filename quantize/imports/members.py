"""Which weights of a checkpoint a row of scores is about: a layer, a whole module, or all experts of a block."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from quantize.exports.llama_names import own_name
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
        tensors: llama.cpp's name of a tensor, with and without ``.weight`` → the layers that it is made of.
    """

    shapes: Mapping[str, Shape]
    stacks: Mapping[str, tuple[str, ...]]
    tensors: Mapping[str, tuple[str, ...]]


def members_of(shapes: Mapping[str, Shape]) -> Members:
    """Prepare the weights of a checkpoint for look-ups.

    Args:
        shapes: Layer → shape of its weight.

    Returns:
        The weights and their stacks.
    """
    tensors: dict[str, list[str]] = {}
    for layer in shapes:
        own = own_name(layer)
        for name in (own, own.removesuffix(".weight")) if own else ():
            tensors.setdefault(name, []).append(layer)
    known = {name: tuple(layers) for name, layers in tensors.items()}
    return Members(shapes, expert_blocks(shapes, by_projection=True), known)


def layers_of(
    name: str, members: Members, names: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[Shape]]:
    """Find the weights of a checkpoint that a name is about.

    Args:
        name: A layer, a tensor of llama.cpp (``blk.0.ffn_up``), or a stack of experts as MLX
            (``….switch_mlp.up_proj``) or the checkpoint names it.
        names: Another tool's name → layers, where its rule does not give them.

    Returns:
        Layer → the shapes of what is meant of it: a parameter of all experts has one for each, and may hold two
        projections of which one is meant. Nothing where the checkpoint has no such weight.

    Example:
        >>> shapes = {f"mlp.experts.{index}.up_proj": (8, 4) for index in (0, 1)}
        >>> layers_of("mlp.switch_mlp.up_proj", members_of(shapes))
        {'mlp.experts.0.up_proj': [(8, 4)], 'mlp.experts.1.up_proj': [(8, 4)]}
    """
    if names and name in names:
        return {layer: [members.shapes[layer]] for layer in names[name] if layer in members.shapes}
    if name in members.shapes:
        return {name: [members.shapes[name]]}
    if name in members.tensors:
        return {layer: _each(members.shapes[layer]) for layer in members.tensors[name]}
    found = _STACK.fullmatch(name)
    if found is None:
        return {}
    block, projection = found[1], found[2]
    for part in (projection, _PROJECTIONS.get(projection)):
        layers = members.stacks.get(f"{block}.experts.*.{part}", ())
        if layers:
            return {layer: [members.shapes[layer]] for layer in layers}
    return _in_one(block, projection, members)


def weights_of(name: str, members: Members, names: Mapping[str, Sequence[str]] | None = None) -> list[Shape]:
    """Find the shapes of the weights that a name is about.

    Args:
        name: As for :func:`layers_of`.
        names: Another tool's name → layers, where its rule does not give them.

    Returns:
        Their shapes; none where the checkpoint has no such weight.
    """
    return [shape for shapes in layers_of(name, members, names).values() for shape in shapes]


def _each(shape: Shape) -> list[Shape]:
    return [shape[1:]] * shape[0] if len(shape) == 3 else [shape]


def _in_one(block: str, projection: str, members: Members) -> dict[str, list[Shape]]:
    # All experts in one parameter; both halves of gate_up_proj, of whatever order, have as many weights.
    name = f"{block}.experts.{projection}"
    whole = members.shapes.get(name)
    if whole is not None:
        return {name: [whole[1:]] * whole[0]}
    name = f"{block}.experts.gate_up_proj"
    both = members.shapes.get(name)
    if both is None or projection not in {"gate_proj", "up_proj"} or len(both) != 3:
        return {}
    rows, row = _along_inputs(both, members.shapes.get(f"{block}.experts.down_proj"))
    return {name: [(rows // 2, row)] * both[0]}


def _along_inputs(both: Shape, down: Shape | None) -> tuple[int, int]:
    # A checkpoint may store (experts, in, out) or (experts, out, in): the inputs are what down_proj gives out.
    _, first, second = both
    if down is not None and first in down[1:] and second not in down[1:]:
        return second, first
    return first, second


def module_layers(module: str, projections: Iterable[str], members: Members) -> list[str]:
    """Find the weights of the projections of a module.

    Args:
        module: Path of the module.
        projections: Names of its projections, of experts with or without their number (``w1``, ``w1.3``), which a
            checkpoint may have under its own names (``gate_proj``).

    Returns:
        Their layers, at any depth below the module.

    Example:
        >>> found = members_of({"l.0.mlp.up_proj": (8, 4), "l.0.mlp.gate": (2, 4), "l.10.mlp.up_proj": (1, 1)})
        >>> module_layers("l.0.mlp", ["up_proj"], found), module_layers("l.0.mlp", ["w3.7"], found)
        (['l.0.mlp.up_proj'], ['l.0.mlp.up_proj'])
    """
    ends = {name.rstrip("0123456789").rstrip(".") if "." in name else name for name in projections}
    below = [layer for layer in members.shapes if layer.startswith(f"{module}.")]
    own = [layer for layer in below if layer.rpartition(".")[2] in ends]
    theirs = {full for full, short in _PROJECTIONS.items() if short in ends}
    return own or [layer for layer in below if layer.rpartition(".")[2] in theirs]


def count(shapes: Iterable[Shape]) -> int:
    """Return how many weights shapes hold together."""
    return sum(math.prod(shape) for shape in shapes)
