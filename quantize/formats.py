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
================  ====================================================================================================
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from allocator import Fault, InvalidInputError
from allocator import Format as ProfileFormat
from quantize.plain_floats import PLAIN_FLOATS

_INTEGER = re.compile(r"(?P<unsigned>u?)int(?P<bits>[1-8])(?:-g(?P<group>[1-9][0-9]{0,5}))?")
_SCALE_BITS = 16
#: Floating-point codes with scales: bits of a code, weights that share a scale, bits of the scale.
_SCALED = {"fp8-e4m3": (8, None, 32), "mxfp8": (8, 32, 8), "mxfp4": (4, 32, 8)}
DYNAMIC = "int8-dynamic"


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

    @property
    def plain(self) -> bool:
        """Whether weights are stored as they are, in some floating-point type."""
        return self.name in PLAIN_FLOATS

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

        Args:
            shape: Shape of the weight.

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
        """The column of a Profile.

        Returns:
            The same format as the allocator knows it.
        """
        return ProfileFormat(
            weight_bits=self.bits,
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
        name: ``int1`` … ``int8`` or ``uint1`` … ``uint8``, with ``-g<size>`` for groups; ``fp16``, ``bf16``, ``fp32``;
            ``fp8-e4m3``, ``mxfp8``, ``mxfp4``, ``int8-dynamic``.

    Returns:
        The format.

    Raises:
        InvalidInputError: The name is not that of a format.

    Example:
        >>> parse_format("int3-g64").stored_bytes((384, 384)) * 8 / 384**2  # effective bits
        3.25
    """
    if name in PLAIN_FLOATS:
        return StorageFormat(name, PLAIN_FLOATS[name].bits, floating=True, scale_bits=0)
    if name in _SCALED:
        bits, size, scale = _SCALED[name]
        return StorageFormat(name, bits, floating=True, group_size=size, scale_bits=scale)
    if name == DYNAMIC:
        return StorageFormat(name, 8, activation_bits=8)
    match = _INTEGER.fullmatch(name)
    if match is None:
        known = ", ".join(
            [
                "int1 … int8 and uint1 … uint8, each with -g<size> for groups (int4-g64)",
                *PLAIN_FLOATS,
                *_SCALED,
                DYNAMIC,
            ]
        )
        raise InvalidInputError(Fault("/formats", f"unknown format {name!r}; known: {known}"))
    group = match["group"]
    return StorageFormat(
        name, int(match["bits"]), symmetric=not match["unsigned"], group_size=int(group) if group else None
    )
