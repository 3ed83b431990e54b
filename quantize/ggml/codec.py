"""A type of ggml as the codec of a format: its bytes, its rounding and what shapes do to it."""

from __future__ import annotations

import math
from functools import partial

from quantize.codec import Codec
from quantize.ggml import types
from quantize.ggml.codes import round_trip


def codec_of(kind: types.BlockType) -> Codec:
    """The functions of a type; nothing of ggml is loaded before something is rounded.

    Returns:
        Its codec.

    Example:
        >>> made = codec_of(types.TYPES["q4_k"])
        >>> made.stored_bytes((2, 512)), made.stored_as((2, 576))
        (576, 'q5_0')
    """
    return Codec(
        weight_bits=kind.bits,
        stored_bytes=partial(types.bytes_of, kind.name),
        round_trip=partial(round_trip, kind.name),
        needs_importance=kind.needs_importance,
        misfit=partial(_misfit, kind.name),
        stored_as=partial(_stored_as, kind.name),
    )


def _misfit(name: str, shape: tuple[int, ...]) -> str | None:
    return types.misfit(name, math.prod(shape[1:]))


def _stored_as(name: str, shape: tuple[int, ...]) -> str:
    return types.fitting(name, math.prod(shape[1:])).name
