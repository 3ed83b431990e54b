"""Formats: how a weight is stored, and exactly how many bytes that takes.

A format is known by its name, which is also its column in a Profile:

================  ====================================================================================================
``int4-g64``      4-bit signed codes, one scale per 64 weights of a row, symmetric around zero
``uint4-g64``     4-bit unsigned codes, one scale and one zero point per 64 weights of a row
``int8``          8-bit signed codes, one scale per row
``fp16``          half precision, nothing to scale; likewise ``bf16`` and ``fp32``
``fp8-e4m3``      8-bit floats, one scale in single precision per row
``mxfp4``         4-bit floats (e2m1), one power of two per 32 weights (OCP Microscaling 1.0); likewise ``mxfp8`` (e4m3)
``int8-dynamic``  ``int8``, whose layers also round their inputs to 8 bits as they come
``q4_k``          a block type of llama.cpp, quantized by ggml; see :mod:`quantize.ggml.types` for all of them
================  ====================================================================================================

Formats with a :class:`~quantize.codec.Codec` bring their own functions; :func:`register_format` adds one from outside,
and so does a package with an entry point in the group ``bitalloc.formats``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from allocator import Fault, InvalidInputError
from allocator import Format as ProfileFormat
from quantize.codec import Codec
from quantize.ggml.codec import codec_of
from quantize.ggml.types import TYPES
from quantize.plain_floats import PLAIN_FLOATS

_INTEGER = re.compile(r"(?P<unsigned>u?)int(?P<bits>[1-8])(?:-g(?P<group>[1-9][0-9]{0,5}))?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SCALE_BITS = 16
#: Floating-point codes with scales: bits of a code, weights that share a scale, bits of the scale.
_SCALED = {"fp8-e4m3": (8, None, 32), "mxfp8": (8, 32, 8), "mxfp4": (4, 32, 8)}
DYNAMIC = "int8-dynamic"
#: Types of ggml whose blocks integers of ours have: a plan may name them so.
_TWINS = {"q4_0", "q5_0", "q8_0"}
#: Entry points that name formats of other packages: the name of the format → a :class:`StorageFormat`.
GROUP = "bitalloc.formats"


@dataclass(frozen=True)
class StorageFormat:
    """How the weights of a layer are stored.

    Attributes:
        name: As it stands in a Profile.
        bits: Bits of one code.
        floating: Whether the codes are floating-point numbers.
        symmetric: Whether zero is stored as code 0; asymmetric formats also store zero points.
        group_size: Weights of a row that share one scale; None for the whole row.
        scale_bits: Bits of a scale; 0 where there are none.
        activation_bits: Bits of the inputs that are multiplied with the weights; 16 leaves them as they are.
        block_size: Weights of a block of llama.cpp's types, which a row has to be whole blocks of; None elsewhere.
        block_bytes: Bytes of such a block; None where they are not known here.
        codec: The functions of a format of its own; None for those that this library rounds to itself.
    """

    name: str
    bits: int
    floating: bool = False
    symmetric: bool = True
    group_size: int | None = None
    scale_bits: int = _SCALE_BITS
    activation_bits: int = 16
    block_size: int | None = None
    block_bytes: int | None = None
    codec: Codec | None = field(default=None, compare=False)

    @property
    def plain(self) -> bool:
        """Whether weights are stored as they are, in some floating-point type."""
        return self.name in PLAIN_FLOATS

    @property
    def integer(self) -> bool:
        """Whether codes are whole numbers that this library rounds to, and not those of a format of its own."""
        return not self.floating and self.codec is None and self.block_size is None

    def groups(self, row: int) -> tuple[int, int]:
        """Split a row into groups; the last one is padded.

        Args:
            row: Number of weights in a row.

        Returns:
            Number of groups and weights per group.
        """
        size = self.group_size or row
        return math.ceil(row / size), size

    def stored_bytes(self, shape: Sequence[int]) -> int:
        """Bytes of a stored weight: codes, scales, zero points and padding.

        Rows run along the first dimension. Each group of codes ends on a byte, padding included; the zero points of
        a row are packed like codes and end on a byte.

        Returns:
            Exact number of bytes.

        Raises:
            InvalidInputError: How many bytes the type takes is not known here.

        Example:
            >>> parse_format("int4-g64").stored_bytes((2, 128))  # 2 rows of 2 groups: 32 B of codes, 2 B of scale each
            136
            >>> parse_format("uint4-g64").stored_bytes((2, 128))  # and 2 zero points of 4 bits per row
            138
        """
        if self.codec is not None:
            return self.codec.stored_bytes(tuple(shape))
        rows, row = flat_shape(shape)
        if self.plain:
            return rows * row * self.bits // 8
        if self.block_size is not None:
            if self.block_bytes is None:
                raise InvalidInputError(Fault("/formats", f"the bytes of {self.name!r} are not known here"))
            return rows * math.ceil(row / self.block_size) * self.block_bytes
        groups, size = self.groups(row)
        codes = groups * math.ceil(size * self.bits / 8)
        scales = groups * self.scale_bits // 8
        zeros = 0 if self.symmetric else math.ceil(groups * self.bits / 8)
        return rows * (codes + scales + zeros)

    def describe(self) -> ProfileFormat:
        """Return the column of a Profile: the same format as the allocator knows it."""
        return ProfileFormat(
            weight_bits=self.bits if self.codec is None else self.codec.weight_bits,
            group_size=self.group_size,
            activation_bits=32 if self.name == "fp32" else self.activation_bits,
        )


def flat_shape(shape: Sequence[int]) -> tuple[int, int]:
    """See a weight as rows: the first dimension against all others.

    Args:
        shape: Shape of a Linear (out, in), Conv (out, in, kernel…) or Embedding (entries, width) weight.

    Returns:
        Number of rows and weights per row.
    """
    return shape[0], math.prod(shape[1:])


def parse_format(name: str) -> StorageFormat:
    """Look a format up by name.

    Args:
        name: ``int1`` … ``int8`` or ``uint1`` … ``uint8``, with ``-g<size>`` for groups; or a name in :data:`FORMATS`;
            or one that a package brings by an entry point.

    Returns:
        The format.

    Raises:
        InvalidInputError: The name is not that of a format.

    Example:
        >>> parse_format("int3-g64").stored_bytes((384, 384)) * 8 / 384**2  # effective bits
        3.25
        >>> parse_format("q4_k").stored_bytes((1, 256))
        144
    """
    found = FORMATS.get(name) or _integer(name) or _brought(name)
    if found is None:
        raise InvalidInputError(Fault("/formats", f"unknown format {name!r}; known: {', '.join(_known())}"))
    return found


def register_format(fmt: StorageFormat) -> StorageFormat:
    """Let estimators, plans, imports and commands take a format of one's own, by its name.

    It is known in this process only; where work runs in several, register it in the module that a recipe loads, or name
    it by an entry point of the group ``bitalloc.formats``. Backends and exports store what they can, and refuse other
    formats by name.

    Args:
        fmt: The format; :func:`own_format` makes one.

    Returns:
        The format.

    Raises:
        InvalidInputError: It brings no functions, or its name is taken by another.

    Example:
        >>> import numpy as np
        >>> sign = own_format(
        ...     "sign", bits=1, stored_bytes=lambda shape: shape[0] * (shape[1] // 8 + 4),
        ...     round_trip=lambda weight, importance: np.sign(weight) * np.abs(weight).mean(axis=1, keepdims=True),
        ... )
        >>> register_format(sign).stored_bytes((2, 64)), parse_format("sign").codec.weight_bits
        (24, 1)
        >>> del FORMATS["sign"]
    """
    if not _NAME.fullmatch(fmt.name):
        detail = f"expected a name of letters, digits, '.', '_' and '-', got {fmt.name!r}"
        raise InvalidInputError(Fault("/formats", detail))
    if fmt.codec is None:
        detail = f"{fmt.name!r} brings no codec, so nothing could round to it; make it with own_format"
        raise InvalidInputError(Fault("/formats", detail))
    taken = FORMATS.get(fmt.name) or _integer(fmt.name)
    of_ggml = fmt.name.lower() in {*TYPES, "f16", "f32"}
    if of_ggml or (taken is not None and (taken != fmt or taken.codec != fmt.codec)):
        raise InvalidInputError(
            Fault("/formats", f"{fmt.name!r} is another format already; choose another name")
        )
    FORMATS[fmt.name] = fmt
    return fmt


def own_format(
    name: str,
    *,
    bits: float,
    stored_bytes: Callable[[tuple[int, ...]], int],
    round_trip: Callable[..., Any],
    activation_bits: int = 16,
    **options: Any,  # noqa: ANN401 - the fields of Codec
) -> StorageFormat:
    """Describe a format that brings its own functions.

    Args:
        name: Its name, the column of a Profile.
        bits: Bits of a weight; may be fractional.
        stored_bytes: Shape of a weight → exact bytes.
        round_trip: (weight, importance or None) → the weight as it will be after storing.
        activation_bits: Bits of the inputs that are multiplied with the weights; 16 leaves them as they are.
        **options: Further fields of :class:`~quantize.codec.Codec`.

    Returns:
        The format, not yet known by its name.
    """
    codec = Codec(bits, stored_bytes, round_trip, **options)
    return StorageFormat(
        name, math.ceil(bits), symmetric=False, scale_bits=0, activation_bits=activation_bits, codec=codec
    )


def _own_formats() -> dict[str, StorageFormat]:
    floats = [
        StorageFormat(name, kind.bits, floating=True, scale_bits=0) for name, kind in PLAIN_FLOATS.items()
    ]
    scaled = [
        StorageFormat(name, bits, floating=True, group_size=size, scale_bits=scale)
        for name, (bits, size, scale) in _SCALED.items()
    ]
    blocks = [
        StorageFormat(
            kind.name, kind.bits, symmetric=kind.symmetric, group_size=kind.group,
            block_size=kind.block, block_bytes=kind.block_bytes, codec=codec_of(kind),
        )
        for kind in TYPES.values() if kind.name not in _TWINS
    ]  # fmt: skip
    dynamic = StorageFormat(DYNAMIC, 8, activation_bits=8)
    return {fmt.name: fmt for fmt in (*floats, *scaled, dynamic, *blocks)}


#: Formats by name, beside integers, whose names say all. :func:`register_format` adds to them.
FORMATS = _own_formats()


def _integer(name: str) -> StorageFormat | None:
    match = _INTEGER.fullmatch(name)
    if match is None:
        return None
    size = int(match["group"]) if match["group"] else None
    return StorageFormat(name, int(match["bits"]), symmetric=not match["unsigned"], group_size=size)


def _brought(name: str) -> StorageFormat | None:
    for entry in metadata.entry_points(group=GROUP, name=name):
        found = entry.load()
        if not isinstance(found, StorageFormat) or found.name != name:
            detail = (
                f"the entry point {entry.value!r} should be the format {name!r}, made with own_format; it is a "
                f"{type(found).__name__}"
            )
            raise InvalidInputError(Fault("/formats", detail))
        return register_format(found)
    return None


def _known() -> list[str]:
    integers = "int1 … int8 and uint1 … uint8, each with -g<size> for groups (int4-g64)"
    return [integers, *FORMATS, *sorted(metadata.entry_points(group=GROUP).names - FORMATS.keys())]
