"""Types of ggml: blocks along a row, their bytes, and what a row that is no whole block becomes.

The numbers need no library. What falls back to what, and which types want an importance matrix, is what
``llama-quantize`` does.

Source: ``gguf.GGML_QUANT_SIZES`` and ``gguf.GGMLQuantizationType`` (gguf 0.19); llama.cpp,
``src/llama-quant.cpp:tensor_type_fallback`` and ``tensor_requires_imatrix``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from allocator import Fault, InvalidInputError
from allocator.contract.errors import unknown


@dataclass(frozen=True)
class BlockType:
    """A type of ggml.

    Attributes:
        name: Its name, in lower case.
        number: Its number in ``enum ggml_type``.
        bits: Bits of a code.
        group: Weights that share a scale.
        symmetric: Whether zero is code 0.
        block: Weights of a block; rows are whole blocks.
        block_bytes: Bytes of a block.
        fallback: Type that takes its place where rows are not whole blocks; None where llama-quantize stops.
        needs_importance: Whether llama-quantize refuses to make it without an importance matrix.
    """

    name: str
    number: int
    bits: int
    group: int
    symmetric: bool
    block: int
    block_bytes: int
    fallback: str | None = None
    needs_importance: bool = False


#: What llama-quantize falls back to where even the second type does not fit.
HALF = BlockType("f16", 1, 16, 1, True, 1, 2)
_SIMPLE = (
    BlockType("q4_0", 2, 4, 32, True, 32, 18),
    BlockType("q4_1", 3, 4, 32, False, 32, 20),
    BlockType("q5_0", 6, 5, 32, True, 32, 22),
    BlockType("q5_1", 7, 5, 32, False, 32, 24),
    BlockType("q8_0", 8, 8, 32, True, 32, 34),
    BlockType("iq4_nl", 20, 4, 32, True, 32, 18),
    BlockType("nvfp4", 40, 4, 16, True, 64, 36),
    BlockType("q1_0", 41, 1, 128, True, 128, 18),
)
_SUPER = (
    BlockType("q2_k", 10, 2, 16, False, 256, 84, "q4_0"),
    BlockType("q3_k", 11, 3, 16, True, 256, 110, "q4_0"),
    BlockType("q4_k", 12, 4, 32, False, 256, 144, "q5_0"),
    BlockType("q5_k", 13, 5, 32, False, 256, 176, "q5_1"),
    BlockType("q6_k", 14, 6, 16, True, 256, 210, "q8_0"),
    BlockType("iq1_s", 19, 1, 32, True, 256, 50, "iq4_nl", needs_importance=True),
    BlockType("iq1_m", 29, 1, 16, True, 256, 56, "iq4_nl", needs_importance=True),
    BlockType("iq2_xxs", 16, 2, 32, True, 256, 66, "iq4_nl", needs_importance=True),
    BlockType("iq2_xs", 17, 2, 16, True, 256, 74, "iq4_nl", needs_importance=True),
    BlockType("iq2_s", 22, 2, 16, True, 256, 82, "iq4_nl", needs_importance=True),
    BlockType("iq3_xxs", 18, 3, 32, True, 256, 98, "iq4_nl", needs_importance=True),
    BlockType("iq3_s", 21, 3, 32, True, 256, 110, "iq4_nl"),
    BlockType("iq4_xs", 23, 4, 32, True, 256, 136, "iq4_nl"),
    BlockType("tq1_0", 34, 2, 256, True, 256, 54, "q4_0"),
    BlockType("tq2_0", 35, 2, 256, True, 256, 66, "q4_0"),
)
TYPES = {kind.name: kind for kind in (*_SIMPLE, *_SUPER)}


def block_type(name: str) -> BlockType:
    """Look a type up.

    Args:
        name: Its name, in lower case.

    Returns:
        The type.

    Raises:
        InvalidInputError: There is no such type; the known ones are listed.
    """
    if name not in TYPES:
        raise InvalidInputError(Fault("/formats", unknown(name, TYPES, "type of ggml")))
    return TYPES[name]


def fitting(name: str, row: int) -> BlockType:
    """The type that rows of a length get, which is another one where they are not whole blocks.

    Args:
        name: The type that is wanted.
        row: Weights in a row.

    Returns:
        The type; its fallback where the row is not whole blocks, ``f16`` where that does not fit either.

    Raises:
        InvalidInputError: Rows are not whole blocks, and the type has no fallback.

    Example:
        >>> [fitting("q4_k", row).name for row in (512, 576, 80)]
        ['q4_k', 'q5_0', 'f16']
    """
    if (reason := misfit(name, row)) is not None:
        raise InvalidInputError(Fault("/formats", reason))
    kind = block_type(name)
    if row % kind.block == 0:
        return kind
    other = TYPES[kind.fallback or ""]
    return other if row % other.block == 0 else HALF


def misfit(name: str, row: int) -> str | None:
    """Say why rows of a length cannot have a type, not even by falling back.

    Args:
        row: Weights in a row.

    Returns:
        The reason; None where they can.

    Example:
        >>> misfit("iq4_nl", 80)
        'rows of 80 are not whole blocks of 32, and iq4_nl has no fallback: llama-quantize stops there'
    """
    kind = block_type(name)
    if row % kind.block == 0 or kind.fallback is not None:
        return None
    what = f"rows of {row} are not whole blocks of {kind.block}"
    return f"{what}, and {name} has no fallback: llama-quantize stops there"


def bytes_of(name: str, shape: tuple[int, ...]) -> int:
    """Bytes of a weight in a type, or in what it falls back to.

    Args:
        shape: Shape of the weight; rows run along the first dimension.

    Returns:
        Exact number of bytes. Of rows that can have neither the type nor another, what padding them would take.

    Example:
        >>> bytes_of("q4_k", (2, 256)), bytes_of("q4_k", (2, 288))  # 288 is 9 blocks of q5_0
        (288, 396)
    """
    row = math.prod(shape[1:])
    kind = block_type(name) if misfit(name, row) else fitting(name, row)
    return shape[0] * math.ceil(row / kind.block) * kind.block_bytes
