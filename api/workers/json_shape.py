"""How deep and how large a JSON text is, before a parser builds anything from it.

A body of 64 MiB can hold twenty million empty lists, which Python objects would turn into gigabytes. Reading the
brackets and commas outside of strings tells, at about the speed of memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Blocks bound the memory; the state at the end of one is carried into the next.
_BLOCK_BYTES = 2**20
_QUOTE, _BACKSLASH, _COLON = b'"\\:'
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1
_STARTS = np.zeros(256, bool)
_STARTS[list(b"[{,:")] = True
_DULL = bytes(set(range(256)) - set(b'"[]{},:\\'))

Codes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class JsonShape:
    """The size of a JSON text.

    Attributes:
        depth: Arrays and objects around the innermost value.
        values: An upper bound of its values: one, and one for each bracket that opens, comma and colon.
        colons: Members of all its objects together.
    """

    depth: int
    values: int
    colons: int


def json_shape(text: bytes, max_depth: int, max_values: int) -> JsonShape:
    """Measure a JSON text, valid or not.

    Args:
        text: UTF-8 text.
        max_depth: Where to stop counting levels.
        max_values: Where to stop counting values.

    Returns:
        The shape; one that exceeds a maximum is a lower bound.

    Example:
        >>> json_shape(b'{"a": [1, "[[[", 2]}', 64, 1000)
        JsonShape(depth=2, values=6, colons=1)
    """
    escapes = b"\\" in text
    within, slashes, level, depth, values, colons = False, 0, 0, 0, 1, 0
    for start in range(0, len(text), _BLOCK_BYTES):
        part = text[start : start + _BLOCK_BYTES]
        # Most of a profile is digits; they go first, unless something between them and a quote could matter.
        block = np.frombuffer(part if escapes else part.translate(None, _DULL), np.uint8)
        if not len(block):
            continue
        quotes = block == _QUOTE
        if escapes:
            escaped, slashes = _escaped(block, slashes)
            quotes &= ~escaped
        inside = np.logical_xor.accumulate(quotes) ^ within
        outside = ~inside
        levels = np.cumsum(_STEPS[block] * outside, dtype=np.int32) + level
        depth = max(depth, int(levels.max()))
        values += int(np.count_nonzero(_STARTS[block] & outside))
        colons += int(np.count_nonzero((block == _COLON) & outside))
        within, level = bool(inside[-1]), int(levels[-1])
        if depth > max_depth or values > max_values:
            break
    return JsonShape(depth, values, colons)


def _escaped(block: Codes, slashes: int) -> tuple[Mask, int]:
    # A character is escaped after an odd number of backslashes; `slashes` of them end the block before.
    index = np.arange(len(block))
    others = np.maximum.accumulate(np.where(block != _BACKSLASH, index, -1 - slashes))
    before = np.concatenate(([-1 - slashes], others[:-1]))
    return (index - 1 - before) % 2 == 1, int(index[-1] - others[-1])
