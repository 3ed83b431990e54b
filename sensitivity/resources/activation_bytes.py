"""Peak bytes of activations along the graph, each row answering for its own stretch of the pass.

A pass holds, at every moment, the tensors that are still needed: the input of the layer that computes, what it has
computed so far, and whatever a residual connection keeps. Every storage that an operation allocates is followed until
it is freed. A row's stretch lasts from its call to the next row's, so that the attention matrix counts with the
projection before it. Its entry is the peak of its stretch with the layer's own input at the bits of the format and all
else as the model holds it; what precedes the first row counts with that row. Rows combine by ``max``, as peaks do: a
plan's peak is where it is largest. Memory that a kernel uses within one operation is not in it. A KV cache is, if the
loss function lets the model keep one during the pass; see ``kv_bytes`` for caches at the length they grow to.

Source: the definition; compare H. V. Habi et al., "HPTQ", 2021, section 3 (cuts of the graph).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from allocator import ResourceTable
from quantize import Format
from sensitivity.layers import LayerRef
from sensitivity.resources.spent import Spent, filled
from sensitivity.rows import ActivationRef, Row
from sensitivity.rows.activations import rows_of
from sensitivity.study import Study


def activation_bytes(study: Study) -> Spent:
    """Follow every tensor of one pass over the first calibration batch.

    Args:
        study: Model, data, rows and formats. An activation row has the exact bytes of its format, scales included; a
            weight whose input is no row has it at the format's activation bits (16 for formats that narrow weights).

    Returns:
        (L, F) bytes for the samples of that batch; combine is ``max``. Rows without an input of their own spend 0.
    """
    stretches = _followed(study)

    def peak(row: Row, target: Format) -> float:
        return max((stretch.bytes_in(row, target) for stretch in stretches.get(row.name, ())), default=0.0)

    batch = "peak of one pass over the first calibration batch"
    return Spent(ResourceTable(values=filled(study, peak), unit="byte", combine="max"), batch)


class _Stretch:
    """From the call of one layer to that of the next."""

    def __init__(self, inputs: Tensor, rows: tuple[int, int] | None, outside: bool) -> None:
        # The weak reference also keeps the address from being given to another tensor.
        self._input = _reference(inputs)
        self._outside = outside  # the caller's own data, in memory throughout but no operation's output
        self._values = inputs.numel()
        self._rows = rows
        self._input_bytes = min(inputs.numel() * inputs.element_size(), inputs.untyped_storage().nbytes())
        self.held = 0  # most bytes while the input is held
        self.freed = 0  # most bytes after it was freed

    def look(self, alive: int) -> None:
        if self._outside:
            self.held = max(self.held, alive + self._input_bytes)
        elif _gone(self._input):
            self.freed = max(self.freed, alive)
        else:
            self.held = max(self.held, alive)

    def bytes_in(self, row: Row, target: Format) -> float:
        if self._rows is None:  # the indices of a lookup stay as they are
            return max(self.held, self.freed)
        if isinstance(row, ActivationRef):
            narrow: float = target.stored_bytes(self._rows)
        else:
            narrow = self._values * (target.describe().activation_bits or target.bits) / 8
        return max(self.held - self._input_bytes + narrow, self.freed)


class _Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operations of a pass have allocated and that are not freed yet."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._stretch: _Stretch | None = None
        self._before = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        del types
        given = {_key(item) for item in tree_leaves((args, kwargs)) if isinstance(item, Tensor)}
        result = func(*args, **(kwargs or {}))
        self._forget()
        for item in tree_leaves(result):
            # An output in the storage of an input is a view, or was written in place.
            if isinstance(item, Tensor) and _key(item) not in given:
                self._alive[_key(item)] = (_reference(item), item.untyped_storage().nbytes())
        self._look()
        return result

    def begin(self, module: nn.Module, inputs: Tensor) -> _Stretch:
        self._forget()
        rows = None if isinstance(module, nn.Embedding) else rows_of(module, inputs)
        stretch = _Stretch(inputs, rows, outside=_key(inputs) not in self._alive)
        if self._stretch is None:
            stretch.freed = self._before
        self._stretch = stretch
        self._look()
        return stretch

    def _look(self) -> None:
        alive = sum(size for _, size in self._alive.values())
        if self._stretch is None:
            self._before = max(self._before, alive)
        else:
            self._stretch.look(alive)

    def _forget(self) -> None:
        for key in [key for key, (reference, _) in self._alive.items() if _gone(reference)]:
            del self._alive[key]


def _followed(study: Study) -> dict[str, list[_Stretch]]:
    stretches: dict[str, list[_Stretch]] = {}
    storages = _Storages()
    with ExitStack() as hooks, torch.no_grad():
        for module, name in _modules(study):

            def begin(module: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                stretches.setdefault(name, []).append(storages.begin(module, inputs[0]))

            hooks.callback(module.register_forward_pre_hook(begin).remove)
        hooks.enter_context(storages)
        study.loss_fn(study.model, study.batches[0])
    return stretches


def _modules(study: Study) -> Iterator[tuple[nn.Module, str]]:
    # Where the input is a row of its own, the weight has no say in how large it is.
    narrowed = {id(row.module) for row in study.others if isinstance(row, ActivationRef)}
    for row in study.rows:
        if isinstance(row, ActivationRef):
            yield row.module, row.name
        elif isinstance(row, LayerRef):
            yield from ((module, row.name) for module in row.modules if id(module) not in narrowed)


def _key(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


def _reference(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _gone(reference: StorageWeakRef) -> bool:
    return bool(reference.expired())  # type: ignore[no-untyped-call]
