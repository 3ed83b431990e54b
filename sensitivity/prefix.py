"""Measuring one changed layer without recomputing what comes before it.

Deep models are a list of blocks. When a layer in one block changes, blocks that ran before it give what they gave with
the original weights, so their outputs are kept and replayed; the numbers are the same bit for bit. The order is the
one seen in the original pass, not that of the list. A model that runs a block twice, or not at all, gets no reuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

_MISSING = object()


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
        self._calls: dict[
            int, list[tuple[int, Any]]
        ] = {}  # batch → (block, output) in the order of execution

    def before(self, layer: str) -> int | None:
        """Find the block that a layer is in.

        Args:
            layer: Name of the layer.

        Returns:
            Index of the block; None for layers outside the blocks, which may come before all of them.
        """
        match = re.match(re.escape(self._path) + r"\.(\d+)\.", layer) if self._path else None
        return int(match[1]) if match else None

    @contextmanager
    def recording(self, batch: int) -> Iterator[None]:
        """Keep the output of every block during a pass of the original model.

        Args:
            batch: Index of the batch.

        Yields:
            Nothing; hooks are gone at the end.
        """
        calls = self._calls[batch] = []
        handles = []
        try:
            for index, block in enumerate(self._blocks):

                def keep(_: nn.Module, __: object, output: object, index: int = index) -> None:
                    calls.append((index, _copied(output)))

                handles.append(block.register_forward_hook(keep))
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def replaying(self, block: int | None, batch: int) -> Iterator[None]:
        """Let the blocks that ran before a block answer from memory.

        Args:
            block: The block that changed, from :meth:`before`.
            batch: Index of the batch.

        Yields:
            Nothing; all blocks compute again at the end.
        """
        earlier = self._earlier(block, batch)
        originals = [self._blocks[index].__dict__.get("forward", _MISSING) for index, _ in earlier]
        try:
            for index, output in earlier:
                self._blocks[index].forward = _answer(output)
            yield
        finally:
            for (index, _), original in zip(earlier, originals, strict=True):
                self._blocks[index].__dict__.pop("forward", None)
                if original is not _MISSING:
                    self._blocks[index].__dict__["forward"] = original

    def _earlier(self, block: int | None, batch: int) -> list[tuple[int, Any]]:
        calls = self._calls[batch]
        order = [index for index, _ in calls]
        if block is None or block not in order or len(set(order)) != len(order):
            return []
        return calls[: order.index(block)]


def _copied(output: object) -> object:
    # Whatever runs later may change the tensor in place.
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, tuple) and type(output) is tuple:
        return tuple(_copied(item) for item in output)
    return output


def _answer(output: object) -> Callable[..., object]:
    def forward(*_: object, **__: object) -> object:
        return _copied(output)

    return forward
