"""Measuring one changed layer without recomputing what comes before it.

Deep models are a list of blocks. When a layer in block k changes, blocks before k give what they gave with the
original weights, so their outputs are kept and replayed; the numbers are the same bit for bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class Prefix:
    """Outputs of the blocks of a model, batch by batch.

    Args:
        model: The model; its longest ``ModuleList`` is taken as the blocks. Without one, nothing is reused.
    """

    def __init__(self, model: nn.Module) -> None:
        lists = {
            name: list(module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)
        }
        self._path = max(lists, key=lambda name: len(lists[name]), default="")
        self._blocks = lists.get(self._path, [])
        self._outputs: dict[tuple[int, int], Any] = {}  # (block, batch) → output

    def before(self, layer: str) -> int:
        """Count the blocks whose outputs cannot change when a layer does.

        Args:
            layer: Name of the layer.

        Returns:
            Index of the layer's block; 0 for layers outside the blocks, which may come before them.
        """
        match = re.match(re.escape(self._path) + r"\.(\d+)\.", layer) if self._path else None
        return int(match[1]) if match else 0

    @contextmanager
    def recording(self, batch: int) -> Iterator[None]:
        """Keep the output of every block during a pass of the original model.

        Args:
            batch: Index of the batch.

        Yields:
            Nothing; hooks are gone at the end.
        """
        handles = []
        try:
            for block, module in enumerate(self._blocks):

                def keep(
                    _: nn.Module, __: object, output: object, key: tuple[int, int] = (block, batch)
                ) -> None:
                    self._outputs[key] = output

                handles.append(module.register_forward_hook(keep))
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def replaying(self, blocks: int, batch: int) -> Iterator[None]:
        """Let the first blocks answer from memory.

        Args:
            blocks: How many.
            batch: Index of the batch.

        Yields:
            Nothing; the blocks compute again at the end.
        """
        replaced = self._blocks[:blocks]
        try:
            for block, module in enumerate(replaced):
                module.forward = _answer(self._outputs[block, batch])
            yield
        finally:
            for module in replaced:
                module.__dict__.pop("forward", None)


def _answer(output: object) -> Callable[..., object]:
    def forward(*_: object, **__: object) -> object:
        return output

    return forward
