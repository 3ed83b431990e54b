r"""Bytes of the KV caches at a context length and batch size.

.. math:: v_{l,f} = \operatorname{bytes}_f(B \, T_l \, H_k, d_k) + \operatorname{bytes}_f(B \, T_l \, H_v, d_v),
          \qquad T_l = \min(\text{context}, \text{window}_l)

bytes_f counts codes, scales and padding exactly; each head of each token is a row with scales of its own. Without
scales this is the familiar 2 · B · T · H · d · bits / 8.
"""

from __future__ import annotations

from allocator import Fault, InvalidInputError, ResourceTable
from quantize import StorageFormat, parse_format
from sensitivity.forward.forward_pass import Cache, forward_pass
from sensitivity.resources.spent import Spent, filled
from sensitivity.rows import Row
from sensitivity.study.study import Study


def kv_bytes(study: Study, context: int | None = None, batch: int = 1, rest: str = "fp16") -> Spent:
    """Count the bytes of all caches.

    Args:
        context: Tokens of one sequence; those of the first calibration batch when absent.
        batch: Sequences that are kept at the same time.
        rest: Format of the caches that are no rows.

    Returns:
        (L, F) bytes; the constant is what caches without a row take.

    Raises:
        InvalidInputError: The model keeps no cache, or ``context`` or ``batch`` is below one.
    """
    for name, given in (("context", context), ("batch", batch)):
        if given is not None and given < 1:
            raise InvalidInputError(Fault(f"/resources/kv_bytes/{name}", f"expected at least 1, got {given}"))
    caches = forward_pass(study).caches
    if not caches:
        detail = f"{type(study.model).__name__} keeps no KV cache; leave this resource out"
        raise InvalidInputError(Fault("/resources/kv_bytes", detail))

    def stored(row: Row, fmt: StorageFormat) -> int:
        return _bytes(caches[row.name], fmt, context, batch) if row.name in caches else 0

    rows = {row.name for row in study.rows}
    others = [cache for name, cache in caches.items() if name not in rows]
    constant = sum(_bytes(cache, parse_format(rest), context, batch) for cache in others)
    tokens = max(cache.tokens for cache in caches.values()) if context is None else context
    note = f"{tokens} tokens, batch {batch}; {len(others)} caches without a row in {rest}"
    return Spent(ResourceTable(values=filled(study, stored), unit="byte", constant=constant), note)


def _bytes(cache: Cache, fmt: StorageFormat, context: int | None, batch: int) -> int:
    tokens = cache.tokens if context is None else context
    kept = tokens if cache.window is None else min(tokens, cache.window)
    return sum(
        fmt.stored_bytes((batch * kept * heads, width))
        for heads, width in zip(cache.heads, cache.widths, strict=True)
    )
