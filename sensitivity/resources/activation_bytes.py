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

from allocator import ResourceTable
from quantize import StorageFormat
from sensitivity.forward.storages import Storages, gone, reference
from sensitivity.models.layers import LayerRef
from sensitivity.resources.spent import Spent, filled
from sensitivity.rows import ActivationRef, Row
from sensitivity.rows.activations import rows_of
from sensitivity.study.study import Study


def activation_bytes(study: Study) -> Spent:
    """Follow every tensor of one pass over the first calibration batch.

    Args:
        study: Model, data, rows and formats. An activation row has the exact bytes of its format, scales included; a
            weight whose input is no row has it at the format's activation bits (16 for formats that narrow weights).

    Returns:
        (L, F) bytes for the samples of that batch; combine is ``max``. Rows without an input of their own spend 0.
    """
    stretches = _followed(study)

    def peak(row: Row, fmt: StorageFormat) -> float:
        return max((stretch.bytes_in(row, fmt) for stretch in stretches.get(row.name, ())), default=0.0)

    batch = "peak of one pass over the first calibration batch"
    return Spent(ResourceTable(values=filled(study, peak), unit="byte", combine="max"), batch)


class _Stretch:
    """From the call of one layer to that of the next."""

    def __init__(self, inputs: Tensor, rows: tuple[int, int] | None, outside: bool) -> None:
        self._input = reference(inputs)
        self._outside = outside  # the caller's own data, in memory throughout but no operation's output
        self._values = inputs.numel()
        self._rows = rows
        self._input_bytes = min(inputs.numel() * inputs.element_size(), inputs.untyped_storage().nbytes())
        self.held = 0  # most bytes while the input is held
        self.freed = 0  # most bytes after it was freed

    def look(self, alive: int) -> None:
        if self._outside:
            self.held = max(self.held, alive + self._input_bytes)
        elif gone(self._input):
            self.freed = max(self.freed, alive)
        else:
            self.held = max(self.held, alive)

    def bytes_in(self, row: Row, fmt: StorageFormat) -> float:
        if self._rows is None:  # the indices of a lookup stay as they are
            return max(self.held, self.freed)
        if isinstance(row, ActivationRef):
            narrow: float = fmt.stored_bytes(self._rows)
        else:
            narrow = self._values * (fmt.describe().activation_bits or fmt.bits) / 8
        return max(self.held - self._input_bytes + narrow, self.freed)


class _Stretches:
    """Stretches of the rows, as the pass goes through them."""

    def __init__(self) -> None:
        self.of: dict[str, list[_Stretch]] = {}
        self._current: _Stretch | None = None
        self._before = 0

    def see(self, alive: int) -> None:
        if self._current is None:
            self._before = max(self._before, alive)
        else:
            self._current.look(alive)

    def begin(self, name: str, stretch: _Stretch) -> None:
        if self._current is None:
            stretch.freed = self._before
        self._current = stretch
        self.of.setdefault(name, []).append(stretch)


def _followed(study: Study) -> dict[str, list[_Stretch]]:
    stretches = _Stretches()
    storages = Storages(stretches.see)
    with ExitStack() as hooks, torch.no_grad():
        for module, name in _modules(study):

            def begin(module: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                rows = None if isinstance(module, nn.Embedding) else rows_of(module, inputs[0])
                stretches.begin(name, _Stretch(inputs[0], rows, outside=not storages.holds(inputs[0])))
                storages.look()

            hooks.callback(module.register_forward_pre_hook(begin).remove)
        hooks.enter_context(storages)
        study.loss_fn(study.model, study.batches[0])
    return stretches.of


def _modules(study: Study) -> Iterator[tuple[nn.Module, str]]:
    # Where the input is a row of its own, the weight has no say in how large it is.
    narrowed = {id(row.module) for row in study.others if isinstance(row, ActivationRef)}
    for row in study.rows:
        if isinstance(row, ActivationRef):
            yield row.module, row.name
        elif isinstance(row, LayerRef):
            yield from ((module, row.name) for module in row.modules if id(module) not in narrowed)
