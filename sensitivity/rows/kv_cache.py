"""Rows for KV caches: keys and values of one attention layer, rounded as they enter the cache.

Decoders of transformers hand new keys (already rotated) and values to ``past_key_values.update`` and attend to what
that returns. A stand-in for the cache rounds them on the way, so that the numbers are those of a quantized cache, with
fused projections too, whether the model is asked to keep a cache or not. Each head of each token has scales of its
own. An encoder keeps no cache and has no such rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from quantize import StorageFormat
from sensitivity.rows.fake_quantize import fake_quantized

_ARGUMENT = "past_key_values"
#: (new keys, new values), each (B, heads, T, width) → what is stored and attended to in their place.
Change: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class CacheRef:
    """The cache of one attention layer.

    Attributes:
        name: Path of the attention module and ``.kv_cache``.
        module: The attention module.
        window: Tokens that the layer keeps at most; None without a sliding window.
    """

    name: str
    module: nn.Module
    window: int | None


def find_caches(model: nn.Module) -> tuple[CacheRef, ...]:
    """Find the attention layers that keep a cache.

    Args:
        model: A decoder of transformers; anything else has none.

    Returns:
        One row per attention layer, in the order of the model.
    """
    return tuple(
        CacheRef(f"{name}.kv_cache", module, _window(module))
        for name, module in model.named_modules()
        if _keeps_cache(module)
    )


@contextmanager
def rounding_cache(row: CacheRef, fmt: StorageFormat) -> Iterator[None]:
    """Round what enters a cache for a while.

    Yields:
        Nothing; the hook is gone at the end.
    """

    def rounded(values: Tensor) -> Tensor:
        width = values.shape[-1]
        return fake_quantized(values, (values.numel() // width, width), fmt, row.name)

    with intercepted(row, lambda keys, values: (rounded(keys), rounded(values))):
        yield


@contextmanager
def intercepted(row: CacheRef, change: Change) -> Iterator[None]:
    """See, and change, what enters a cache.

    Args:
        change: Called with the new keys and values.

    Yields:
        Nothing; the hook is gone at the end.
    """

    def stand_in(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, _ARGUMENT: _Cache(kwargs.get(_ARGUMENT), change)}

    handle = row.module.register_forward_pre_hook(stand_in, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class _Cache:
    """Stands before the model's own cache, if there is one."""

    def __init__(self, original: Any, change: Change) -> None:  # noqa: ANN401
        self._original = original
        self._change = change

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        changed = self._change(keys, values)
        if self._original is None:
            return changed
        kept: tuple[Tensor, Tensor] = self._original.update(*changed, *args, **kwargs)
        return kept

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._original, name)


def _keeps_cache(module: nn.Module) -> bool:
    # `layer_idx` is the place in the cache; `is_causal` tells a decoder from an encoder of the same class. The two
    # caches of an encoder-decoder are told apart by their class, which a stand-in does not have.
    if getattr(module, "layer_idx", None) is None or not getattr(module, "is_causal", False):
        return False
    if getattr(getattr(module, "config", None), "is_encoder_decoder", False):
        return False
    return _ARGUMENT in inspect.signature(module.forward).parameters


def _window(module: nn.Module) -> int | None:
    own = getattr(module, "sliding_window", getattr(getattr(module, "config", None), "sliding_window", None))
    return own if isinstance(own, int) else None
