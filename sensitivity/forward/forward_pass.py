"""What each row does in one pass: shapes and multiply-accumulates, counted by hooks rather than from configurations.

Every use of a row is a product of an (M, K) by a (K, N) matrix, so that it costs M · K · N multiply-accumulates:

===========  ==========================================  ============================  =====================
operation    M                                           K                             N
===========  ==========================================  ============================  =====================
matmul       tokens                                      inputs                        outputs
convolution  samples · output positions                  inputs / groups · kernel      output channels
lookup       tokens                                      0: nothing is multiplied      width
attention    samples · query heads · queries             width of a key and a value    keys
===========  ==========================================  ============================  =====================

Attention counts all pairs of queries and keys, masked or not, as kernels without a mask do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from sensitivity.models.layers import LayerRef
from sensitivity.models.module_calls import on_call
from sensitivity.rows import CacheRef, ExpertRef, Row
from sensitivity.rows.experts import tokens_of
from sensitivity.rows.kv_cache import Change, find_caches, intercepted
from sensitivity.study.study import Study, once

Operation: TypeAlias = Literal["matmul", "convolution", "lookup", "attention"]
_Entered: TypeAlias = tuple[torch.Size, torch.Size]  # of new keys and new values


@dataclass(frozen=True)
class Call:
    """One use of a row, all samples of a batch together.

    Attributes:
        operation: What is computed.
        m: Rows of the left matrix.
        k: What is summed over.
        n: Columns of the right matrix.
        tokens: Tokens of all samples, which ``m`` is a multiple of; None for images.
        moved: Values that flow in and out in the precision of activations.
        reads: Shapes of what is read in the format of the row.
    """

    operation: Operation
    m: int
    k: int
    n: int
    tokens: int | None
    moved: int
    reads: tuple[tuple[int, int], ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.k * self.n


@dataclass(frozen=True)
class Cache:
    """What an attention layer keeps of one token.

    Attributes:
        heads: Heads of keys and of values.
        widths: Values per head of a key and of a value.
        tokens: Tokens that one sample of the batch brought, at most.
        window: Tokens kept at most; None without a sliding window.
    """

    heads: tuple[int, int]
    widths: tuple[int, int]
    tokens: int
    window: int | None


@dataclass(frozen=True)
class ForwardPass:
    """One pass over the first calibration batch.

    Attributes:
        samples: Losses of the batch.
        calls: Row name to its uses; rows that took no part have none. Activations do no work of their own.
        caches: Name of every KV cache of the model, row or not, to what it keeps.
    """

    samples: int
    calls: Mapping[str, tuple[Call, ...]]
    caches: Mapping[str, Cache]

    def macs(self, row: str) -> int:
        """Return the multiply-accumulates of a row for one sample, to the nearest whole number."""
        return round(sum(call.macs for call in self.calls[row]) / self.samples)


def forward_pass(study: Study) -> ForwardPass:
    """Run the first calibration batch once and note what every row does.

    Returns:
        Counts; the same object for every resource of one study.

    Example:
        >>> from sensitivity.models.layers import discover
        >>> from sensitivity.study.study import silent
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1))
        >>> def loss(model, batch):
        ...     return model(batch).flatten(1).sum(1)
        >>> study = Study(model, [torch.ones(2, 3, 5, 5)], loss, discover(model), (), 0, silent)
        >>> forward_pass(study).macs("0") == 8 * 5 * 5 * 3 * 3 * 3
        True
    """
    return once(study, "forward_pass", lambda: _recorded(study))


def _recorded(study: Study) -> ForwardPass:
    calls: dict[str, list[Call]] = {row.name: [] for row in study.rows}
    caches = {cache: list[_Entered]() for cache in find_caches(study.model)}
    with ExitStack() as hooks, torch.no_grad():
        for row in study.rows:
            _watch(hooks, row, calls[row.name])
        for cache, entered in caches.items():
            hooks.enter_context(intercepted(cache, _note(entered)))
        samples = len(study.loss_fn(study.model, study.batches[0]))
    for cache, entered in caches.items():
        if cache.name in calls:
            calls[cache.name] += [_attention(cache, *shapes) for shapes in entered]
    kept = {cache.name: _cache(cache, entered) for cache, entered in caches.items() if entered}
    return ForwardPass(samples, {name: tuple(found) for name, found in calls.items()}, kept)


def _watch(hooks: ExitStack, row: Row, calls: list[Call]) -> None:
    if isinstance(row, LayerRef):

        def note(module: nn.Module, inputs: Tensor, output: Tensor) -> None:
            calls.append(_call(module, inputs, output))

        for module in row.modules:
            hooks.callback(on_call(module, note))
    elif isinstance(row, ExpertRef):

        def count(_: nn.Module, inputs: tuple[Any, ...], __: object) -> None:
            calls.append(_expert(row, inputs[1]))

        hooks.callback(row.module.register_forward_hook(count).remove)


def _call(module: nn.Module, inputs: Tensor, output: Tensor) -> Call:
    weight = module.weight
    assert isinstance(weight, Tensor)
    n = weight.shape[1] if isinstance(module, nn.Embedding) else weight.shape[0]
    m = output.numel() // n
    if isinstance(module, nn.Embedding):
        return Call("lookup", m, 0, n, m, output.numel(), ((m, n),))
    k = math.prod(weight.shape[1:])  # a grouped convolution stores inputs / groups
    moved = inputs.numel() + output.numel()
    if isinstance(module, nn.Linear):
        return Call("matmul", m, k, n, m, moved, ((n, k),))
    return Call("convolution", m, k, n, None, moved, ((n, k),))


def _expert(row: ExpertRef, routed: Tensor) -> Call:
    n, k = row.shape
    m = tokens_of(row, routed)
    return Call("matmul", m, k, n, routed.shape[0], m * (k + n), ((n, k),) if m else ())


def _attention(row: CacheRef, keys: torch.Size, values: torch.Size) -> Call:
    samples, heads, tokens, width = keys
    m = samples * tokens * heads * int(getattr(row.module, "num_key_value_groups", 1))
    reads = ((math.prod(keys[:3]), width), (math.prod(values[:3]), values[3]))
    return Call("attention", m, width + values[3], tokens, samples * tokens, m * (width + values[3]), reads)


def _note(entered: list[_Entered]) -> Change:
    def look(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        entered.append((keys.shape, values.shape))
        return keys, values

    return look


def _cache(row: CacheRef, entered: list[_Entered]) -> Cache:
    keys, values = entered[0]
    tokens = max(shapes[0][2] for shapes in entered)
    return Cache((keys[1], values[1]), (keys[3], values[3]), tokens, row.window)
