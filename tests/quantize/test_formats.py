"""Names of formats, and the bytes they take, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from allocator import InvalidInputError
from quantize import Quantized, StorageFormat, parse_format, quantize
from quantize.formats import flat_shape
from quantize.rounding.codes import is_sign

LINEAR = (2, 128)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        # 2 rows · (2 groups · (64 · 4 / 8 + 2))
        ("int4-g64", LINEAR, 2 * 2 * (32 + 2)),
        # and one zero point of 4 bits per group: 2 groups fill one byte per row
        ("uint4-g64", LINEAR, 2 * (2 * (32 + 2) + 1)),
        # one scale for the whole row
        ("int8", LINEAR, 2 * (128 + 2)),
        ("uint8", LINEAR, 2 * (128 + 2 + 1)),
        # 3 bits: 128 · 3 / 8 = 48 bytes, no padding bits
        ("int3", LINEAR, 2 * (48 + 2)),
        # 3 bits in groups of 10: 30 bits end on a fourth byte; 128 weights make 13 groups, the last one padded
        ("int3-g10", LINEAR, 2 * 13 * (4 + 2)),
        # 13 zero points of 3 bits are 39 bits, hence 5 bytes per row
        ("uint3-g10", LINEAR, 2 * (13 * (4 + 2) + 5)),
        ("int1-g64", LINEAR, 2 * 2 * (8 + 2)),
        ("int2-g64", LINEAR, 2 * 2 * (16 + 2)),
        ("int5-g64", LINEAR, 2 * 2 * (40 + 2)),
        ("int6-g64", LINEAR, 2 * 2 * (48 + 2)),
        # 7 bits in a row of 3 weights: 21 bits, 3 bytes
        ("int7", (5, 3), 5 * (3 + 2)),
        # a group that is longer than the row is stored whole
        ("int4-g64", (3, 10), 3 * (32 + 2)),
        ("int4-g1", (2, 3), 2 * 3 * (1 + 2)),
        ("fp16", LINEAR, 2 * 128 * 2),
        ("bf16", LINEAR, 2 * 128 * 2),
        ("fp32", LINEAR, 2 * 128 * 4),
        # Conv2d (out 8, in 4, 3, 3): rows of 36 weights
        ("int8", (8, 4, 3, 3), 8 * (36 + 2)),
        ("int4-g16", (8, 4, 3, 3), 8 * 3 * (8 + 2)),
        ("uint4-g16", (8, 4, 3, 3), 8 * (3 * (8 + 2) + 2)),
        # Conv1d (out 6, in 2, 5): rows of 10 weights
        ("int2", (6, 2, 5), 6 * (3 + 2)),
        ("fp16", (6, 2, 5), 6 * 10 * 2),
        # Embedding: one row per entry
        ("int8-g16", (1000, 32), 1000 * 2 * (16 + 2)),
        # one weight per row
        ("int8", (7,), 7 * (1 + 2)),
    ],
)
def test_stored_bytes_equal_the_sum_done_by_hand(name: str, shape: tuple[int, ...], expected: int) -> None:
    assert parse_format(name).stored_bytes(shape) == expected


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("int4-g64", 4 + 16 / 64),
        ("int3-g64", 3 + 16 / 64),
        ("int2-g32", 2 + 16 / 32),
        ("int8-g128", 8 + 16 / 128),
        ("int8", 8 + 16 / 384),
        # 384 / 64 = 6 zero points of 4 bits fill 3 bytes of each row
        ("uint4-g64", 4 + (16 + 4) / 64),
        ("fp16", 16),
    ],
)
def test_effective_bits_of_an_encoder_layer(name: str, bits: float) -> None:
    assert parse_format(name).stored_bytes((384, 384)) * 8 / 384**2 == pytest.approx(bits, rel=1e-12)


@pytest.mark.parametrize(
    "name", [f"{sign}int{bits}-g{size}" for sign in ("", "u") for bits in (1, 3, 8) for size in (5, 16)]
)
def test_stored_bytes_equal_what_quantize_hands_out_when_packed(name: str) -> None:
    fmt = parse_format(name)
    weight = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    rounded = quantize(weight, fmt)
    assert fmt.stored_bytes(weight.shape) == _packed_bytes(rounded, fmt)


def _packed_bytes(rounded: Quantized, fmt: StorageFormat) -> int:
    total = rounded.scales.nbytes
    offset = 2 ** (fmt.bits - 1) if fmt.symmetric else 0
    stored = (
        np.maximum(rounded.codes, 0) - offset if is_sign(fmt) else rounded.codes
    )  # bits 0 and 1 for −1 and +1
    for row_codes, row_zeros in zip(stored, rounded.zeros, strict=True):
        for group in row_codes:
            total += len(_packed("".join(f"{code + offset:0{fmt.bits}b}" for code in group)))
        if not fmt.symmetric:
            total += len(_packed("".join(f"{zero:0{fmt.bits}b}" for zero in row_zeros)))
    return total


def _packed(bits: str) -> bytes:
    padded = bits + "0" * (-len(bits) % 8)
    return int(padded, 2).to_bytes(len(padded) // 8, "big")


@pytest.mark.parametrize(
    ("name", "bits", "symmetric", "group", "floating"),
    [
        ("int1", 1, True, None, False),
        ("int8-g128", 8, True, 128, False),
        ("uint4-g64", 4, False, 64, False),
        ("uint8", 8, False, None, False),
        ("int4-g999999", 4, True, 999_999, False),
        ("fp16", 16, True, None, True),
        ("bf16", 16, True, None, True),
        ("fp32", 32, True, None, True),
    ],
)
def test_names_are_read(name: str, bits: int, symmetric: bool, group: int | None, floating: bool) -> None:
    fmt = parse_format(name)
    assert (fmt.name, fmt.bits, fmt.symmetric) == (name, bits, symmetric)
    assert (fmt.group_size, fmt.floating) == (group, floating)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "int",
        "int0",
        "int9",
        "int16",
        "INT4",
        " int4",
        "int4 ",
        "int4\n",
        "int4-g",
        "int4-g0",
        "int4-g064",
        "int4-g-1",
        "int4-g1000000",
        "int4g64",
        "int4-64",
        "sint4",
        "fp16-g64",
        "fp8",
        "float16",
    ],
)
def test_other_names_are_refused_with_the_names_that_exist(name: str) -> None:
    with pytest.raises(
        InvalidInputError, match=r"/formats: unknown format '.*'; known: int1 … int8 and uint1"
    ):
        parse_format(name)


def test_digits_of_other_alphabets_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="unknown format"):
        parse_format("int4-g1٣")


@pytest.mark.parametrize(
    ("size", "row", "expected"),
    [("-g64", 128, (2, 64)), ("-g64", 129, (3, 64)), ("-g64", 1, (1, 64)), ("", 129, (1, 129))],
)
def test_rows_split_into_whole_groups(size: str, row: int, expected: tuple[int, int]) -> None:
    assert parse_format(f"int4{size}").groups(row) == expected


@pytest.mark.parametrize(
    ("shape", "expected"), [((3, 4), (3, 4)), ((3, 4, 5), (3, 20)), ((3, 4, 5, 6), (3, 120)), ((3,), (3, 1))]
)
def test_rows_run_along_the_first_dimension(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert flat_shape(shape) == expected


def test_the_column_of_a_profile_says_bits_and_group() -> None:
    column = parse_format("uint3-g64").describe()
    assert (column.weight_bits, column.group_size) == (3, 64)
    assert parse_format("fp32").describe().weight_bits == 32
    assert parse_format("int8").describe().group_size is None
