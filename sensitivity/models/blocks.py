"""Which modules are the blocks that a model is a chain of, and which layers are in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from allocator.contract.patterns import matching
from sensitivity.models.layers import LayerRef


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a model that activations go through as a whole.

    Attributes:
        name: Path of the module.
        module: The module.
    """

    name: str
    module: nn.Module


def find_blocks(model: nn.Module, patterns: Sequence[str] | None = None) -> tuple[Block, ...]:
    """Find the blocks of a model.

    Args:
        patterns: Names or globs of modules; the members of the longest ``ModuleList`` that is not inside another when
            absent.

    Returns:
        The blocks in the order of the model's modules; none where nothing is named and there is no ``ModuleList``.

    Raises:
        InvalidInputError: A pattern matches no module.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.ReLU(), nn.Tanh()]))
        >>> [block.name for block in find_blocks(model)]
        ['1.0', '1.1']
    """
    modules = {name: module for name, module in model.named_modules() if name}
    if patterns is None:
        path = _longest_list(model)
        chosen = {f"{path}.{index}".lstrip(".") for index in range(len(_members(model, path)))}
    else:
        chosen = set()
        for index, pattern in enumerate(patterns):
            try:
                chosen |= {list(modules)[match] for match in matching(pattern, list(modules))}
            except ValueError as error:
                raise InvalidInputError(Fault(pointer(("blocks", index)), str(error))) from error
    return tuple(Block(name, module) for name, module in modules.items() if name in chosen)


def _longest_list(model: nn.Module) -> str | None:
    lists = {name: len(module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    # Lists inside lists, such as the experts of each block, come after the list that they are in.
    outer = [name for name in lists if not any(_within(name, other) for other in lists)]
    return max(outer, key=lists.__getitem__, default=None)


def _members(model: nn.Module, path: str | None) -> list[nn.Module]:
    if path is None:
        return []
    return [*model.get_submodule(path).children()]


def _within(name: str, other: str) -> bool:
    return name != other and (not other or name.startswith(f"{other}."))


def owners(layers: Sequence[LayerRef], blocks: Sequence[Block]) -> list[int | None]:
    """Find the block of every layer.

    Args:
        layers: L layers.
        blocks: The blocks; where one is inside another, the inner one owns the layer.

    Returns:
        (L,) indices of blocks; None for a layer outside of all.
    """
    found: list[int | None] = []
    for layer in layers:
        inside = [
            index
            for index, block in enumerate(blocks)
            if layer.name == block.name or _within(layer.name, block.name)
        ]
        found.append(max(inside, key=lambda index: len(blocks[index].name), default=None))
    return found


def first_activation(value: object) -> Tensor | None:
    """Find the activation among what a block takes or returns: its first floating-point tensor.

    Args:
        value: A tensor, or nested sequences and mappings of tensors.

    Returns:
        The tensor; None where there is none.
    """
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else None
    parts = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    )
    return next((found for found in map(first_activation, parts) if found is not None), None)


@contextmanager
def watching(
    blocks: Sequence[Block], see: Callable[[Block, Tensor | None, Tensor | None], None]
) -> Iterator[None]:
    """Look at what goes into and comes out of blocks while a model runs.

    Args:
        see: Called after each call of a block with its input, as it was before the call, and its output.

    Yields:
        Nothing; hooks are gone at the end.
    """
    handles = []
    try:
        for block in blocks:
            inputs: list[Tensor | None] = []

            def before(
                module: nn.Module, args: object, kwargs: object, inputs: list[Tensor | None] = inputs
            ) -> None:
                del module
                found = first_activation((args, kwargs))
                inputs.append(
                    None if found is None else found.clone()
                )  # what runs inside may change it in place

            def after(
                module: nn.Module,
                args: object,
                output: object,
                block: Block = block,
                inputs: list[Tensor | None] = inputs,
            ) -> None:
                del module, args
                see(block, inputs.pop(), first_activation(output))

            handles.append(block.module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(block.module.register_forward_hook(after))
        yield
    finally:
        for handle in handles:
            handle.remove()


def require_blocks(model: nn.Module, patterns: Sequence[str] | None, least: int = 1) -> tuple[Block, ...]:
    """Find the blocks of a model, which must have some.

    Args:
        patterns: As in :func:`find_blocks`.
        least: How many are needed.

    Returns:
        The blocks.

    Raises:
        InvalidInputError: There are too few, or a pattern matches no module.
    """
    blocks = find_blocks(model, patterns)
    if len(blocks) < least:
        detail = (
            f"expected at least {least} blocks, found {len(blocks)}: without blocks=[...], names or globs of modules, "
            "they are taken from the longest nn.ModuleList"
        )
        raise InvalidInputError(Fault("/blocks", detail))
    return blocks


def checked(block: Block, activation: Tensor | None) -> Tensor:
    """Refuse an activation that nothing can be read from.

    Args:
        block: Where it comes from.

    Returns:
        The same.

    Raises:
        InvalidInputError: There is none, or it is NaN or infinite.
    """
    where = pointer(("blocks", block.name))
    if activation is None:
        raise InvalidInputError(Fault(where, "takes or returns no floating-point tensor; leave it out"))
    if not torch.isfinite(activation).all():
        raise InvalidInputError(Fault(where, "its activation is NaN or infinite on a calibration batch"))
    return activation
