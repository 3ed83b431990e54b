"""Reference rounding: cases worked out by hand, and a slow scalar twin written from the formula."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike

from allocator import InvalidInputError
from quantize import StorageFormat, parse_format, quantize, round_trip
from quantize.rounding.nearest import Float32Array

INTEGERS = st.builds(
    lambda unsigned, bits, group: parse_format(f"{unsigned}int{bits}{group}"),
    st.sampled_from(["", "u"]),
    st.integers(1, 8),
    st.sampled_from(["", "-g1", "-g2", "-g3", "-g5", "-g16"]),
)
SHAPES = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)
#: Half precision is finite up to 65504 and one bit halves the range: larger weights are another test's business.
WEIGHTS = SHAPES.flatmap(
    lambda shape: arrays(
        np.float32, shape, elements=st.floats(-30_000, 30_000, width=32, allow_subnormal=True)
    )
)
EXAMPLES = settings(max_examples=300, deadline=None, derandomize=True)


def weight(rows: ArrayLike) -> Float32Array:
    return np.array(rows, dtype=np.float32)


# Cases worked out by hand


def test_symmetric_two_bits() -> None:
    # s = 3 / 1.5 = 2; 3/2 = 1.5 rounds to 2 and is clipped to 1; -1/2 and 1/2 round to the even 0; -3/2 rounds to -2
    rounded = quantize(weight([[3, -1, 1, -3]]), parse_format("int2"))
    assert rounded.codes.tolist() == [[[1, 0, 0, -2]]]
    assert rounded.scales.tolist() == [[2]]
    assert rounded.zeros.tolist() == [[0]]
    assert rounded.dequantize().tolist() == [[2, 0, 0, -4]]


def test_symmetric_four_bits_in_groups() -> None:
    # first group: s = 15 / 7.5 = 2, 15/2 = 7.5 is clipped to 7, -5/2 = -2.5 rounds to the even -2
    # second group: s = 0.9375 / 7.5 = 0.125 exactly, 0.25/s = 2, -0.9375/s = -7.5 rounds to the even -8
    rounded = quantize(weight([[15, -5, 0.25, -0.9375]]), parse_format("int4-g2"))
    assert rounded.codes.tolist() == [[[7, -2], [2, -8]]]
    assert rounded.scales.tolist() == [[2, 0.125]]
    assert rounded.dequantize().tolist() == [[14, -4, 0.25, -1]]


def test_asymmetric_two_bits() -> None:
    # s = (2 - -1) / 3 = 1 and z = 1, so the codes 0 … 3 stand for -1 … 2
    rounded = quantize(weight([[-1, 0, 1.25, 2]]), parse_format("uint2"))
    assert rounded.codes.tolist() == [[[0, 1, 2, 3]]]
    assert rounded.scales.tolist() == [[1]]
    assert rounded.zeros.tolist() == [[1]]
    assert rounded.dequantize().tolist() == [[-1, 0, 1, 2]]


def test_the_range_of_asymmetric_groups_is_stretched_to_contain_zero() -> None:
    # only positive: [0, 6], s = 6/3 = 2, z = 0; only negative: [-6, 0], s = 2, z = 3
    rounded = quantize(weight([[4, 6, -4, -6]]), parse_format("uint2-g2"))
    assert rounded.scales.tolist() == [[2, 2]]
    assert rounded.zeros.tolist() == [[0, 3]]
    assert rounded.codes.tolist() == [[[2, 3], [1, 0]]]
    assert rounded.dequantize().tolist() == [[4, 6, -4, -6]]


def test_asymmetric_codes_that_overshoot_are_clipped() -> None:
    # s = (1.5 - -1.5) / 3 = 1; both ends are ties that round to even: z = 2 and 1.5 → 2 + 2 = 4, clipped to 3
    rounded = quantize(weight([[-1.5, 1.5]]), parse_format("uint2"))
    assert rounded.zeros.tolist() == [[2]]
    assert rounded.codes.tolist() == [[[0, 3]]]
    assert rounded.dequantize().tolist() == [[-2, 1]]


def test_the_last_group_is_padded_with_zeros_that_do_not_come_back() -> None:
    # 5 weights in groups of 3: the second group is (4, -2, padding); s = 4 / 1.5 rounds to 2.666… in half precision
    rounded = quantize(weight([[3, 0, 0, 4, -2]]), parse_format("int2-g3"))
    half = float(np.float16(4 / 1.5))
    assert rounded.codes.tolist() == [[[1, 0, 0], [1, -1, 0]]]
    assert rounded.scales.tolist() == [[2, half]]
    assert rounded.dequantize().tolist() == [[2, 0, 0, half, -half]]


def test_padding_of_asymmetric_groups_stands_for_zero() -> None:
    # [-3, 0] with s = 1: z = 3, and the two padded weights take the code of zero
    rounded = quantize(weight([[-3, -1]]), parse_format("uint2-g4"))
    assert rounded.codes.tolist() == [[[0, 2, 3, 3]]]
    assert rounded.dequantize().tolist() == [[-3, -1]]


def test_each_row_has_a_scale_of_its_own() -> None:
    rounded = quantize(weight([[127.5, 1], [255, 2]]), parse_format("int8"))
    assert rounded.scales.tolist() == [[1], [2]]
    assert rounded.codes.tolist() == [[[127, 1]], [[127, 1]]]


def test_a_convolution_is_grouped_across_its_channels_and_kernel() -> None:
    # rows of 2 · 1 · 2 = 4 weights; the first group of a row is the kernel of its first channel
    kernel = weight([[[[3, 0]], [[0, 6]]], [[[-3, 0]], [[0, 0]]]])
    rounded = quantize(kernel, parse_format("int2-g2"))
    assert rounded.codes.shape == (2, 2, 2)
    assert rounded.scales.tolist() == [[2, 4], [2, 0]]
    assert rounded.dequantize().tolist() == [[[[2, 0]], [[0, 4]]], [[[-4, 0]], [[0, 0]]]]


def test_one_symmetric_bit_rounds_every_weight_to_zero() -> None:
    # s = 2 max |w|, so that every w / s lies within ±½ and ties go to the even 0: the formula leaves nothing
    assert round_trip(weight([[1, -1, 0.3, -0.7]]), parse_format("int1")).tolist() == [[0, 0, 0, 0]]


def test_one_asymmetric_bit_keeps_the_ends_of_the_range() -> None:
    assert round_trip(weight([[0, 1, 0.4, 0.6]]), parse_format("uint1")).tolist() == [[0, 1, 0, 1]]


def test_codes_are_chosen_with_the_scale_in_single_precision() -> None:
    # s = 1.0003 / 127.5; in half precision it is 0.04 % larger, and 1.0003 / half(s) = 127.45 would round down
    values = weight([[1.0003, -1.0003]])
    half = np.float32(np.float16(np.float32(1.0003) / np.float32(127.5)))
    assert quantize(values, parse_format("int8")).codes.tolist() == [[[127, -128]]]
    assert round_trip(values, parse_format("int8")).tolist() == [[127 * half, -128 * half]]


def test_half_precision_rounds_to_even() -> None:
    # 2048 + 1 is a tie between 2048 and 2050
    assert round_trip(weight([[0.1, 2049, 65504]]), parse_format("fp16")).tolist() == [
        [0.0999755859375, 2048, 65504]
    ]


def test_brain_floats_keep_eight_bits() -> None:
    # 8 significant bits: 257 is a tie between 256 and 258, 259 one between 258 and 260
    assert round_trip(weight([[257, 259, 1e30]]), parse_format("bf16"))[0, :2].tolist() == [256, 260]


def test_single_precision_changes_nothing() -> None:
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    assert np.array_equal(round_trip(values, parse_format("fp32")), values)


# Edges


@pytest.mark.parametrize("name", ["int1", "int4-g2", "int8", "uint4-g2", "uint8"])
def test_groups_of_zeros_stay_zero(name: str) -> None:
    rounded = quantize(np.zeros((2, 4), dtype=np.float32), parse_format(name))
    assert not rounded.codes.any()
    assert not rounded.dequantize().any()
    assert np.isfinite(rounded.scales).all()


@pytest.mark.parametrize("name", ["int2-g2", "int8-g2", "uint2-g2", "uint8-g2"])
def test_groups_below_half_precision_become_zero_next_to_groups_that_do_not(name: str) -> None:
    # a scale of 1e-30 is zero in half precision, and the weights of the group with it
    values = weight([[1e-30, -1e-30, 3, -3], [1e-40, 0, 0, 1e-45]])
    restored = round_trip(values, parse_format(name))
    assert np.isfinite(restored).all()
    assert not restored[0, :2].any()
    assert restored[0, 2:].any()
    assert not restored[1].any()


def test_quantize_leaves_its_input_alone() -> None:
    values = weight([[3, -1, 0.4]])
    before = values.copy()
    for name in ("int4-g2", "uint4-g2", "fp16", "fp32"):
        round_trip(values, parse_format(name))[...] = 7
    assert np.array_equal(values, before)


def test_memory_order_does_not_matter() -> None:
    values = np.random.default_rng(1).normal(size=(6, 4, 3)).astype(np.float32)
    turned = np.asfortranarray(values)
    assert np.array_equal(
        round_trip(values, parse_format("int4-g2")), round_trip(turned, parse_format("int4-g2"))
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["int4-g2", "int8", "uint4"])
def test_weights_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    with pytest.raises(InvalidInputError, match="/weight: holds NaN or infinity; it cannot be quantized"):
        round_trip(weight([[1, bad]]), parse_format(name))


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_weights_that_are_not_finite_are_refused_by_floating_formats_too(name: str) -> None:
    with pytest.raises(InvalidInputError, match="holds NaN or infinity"):
        round_trip(weight([[1, np.nan]]), parse_format(name))


@pytest.mark.parametrize(
    ("name", "largest"), [("int1", 40_000), ("int2", 1e5), ("int8", 1e7), ("uint1", 1e5), ("uint8", 2e7)]
)
def test_scales_beyond_half_precision_are_refused(name: str, largest: float) -> None:
    detail = r"/weight: weights reach .*, which needs scales beyond half precision; use bf16 or fp32"
    with pytest.raises(InvalidInputError, match=detail):
        quantize(weight([[largest, 0]]), parse_format(name))


@pytest.mark.parametrize(("name", "largest"), [("int8", 65504 * 127.5), ("uint8", 65504 * 255)])
def test_the_largest_scale_of_half_precision_is_accepted(name: str, largest: float) -> None:
    rounded = quantize(weight([[largest, 0]]), parse_format(name))
    assert rounded.scales.tolist() == [[65504]]
    assert np.isfinite(rounded.dequantize()).all()


def test_weights_beyond_half_precision_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="beyond the 65504 of fp16"):
        round_trip(weight([[1e6, 0]]), parse_format("fp16"))


def test_weights_at_the_end_of_single_precision_are_refused_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidInputError, match="beyond half precision"):
            quantize(weight([[3e38, -3e38]]), parse_format("uint8"))


# The slow twin


def single(value: float) -> float:
    # One operation in double precision, then rounded, is the correctly rounded operation in single precision.
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    return float(rounded)


def half(value: float) -> float:
    (rounded,) = struct.unpack("e", struct.pack("e", value))
    return float(rounded)


def slow_round_trip(values: list[float], fmt: StorageFormat) -> list[float]:
    """One row, weight by weight, from the formula in the docstring of quantize.rounding.nearest."""
    size = fmt.group_size or len(values)
    restored = []
    for start in range(0, len(values), size):
        group = values[start : start + size]
        low, high = min(0.0, *group), max(0.0, *group)
        if fmt.symmetric:
            least, most = -(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1) - 1
            scale = single(max(abs(w) for w in group) / ((2**fmt.bits - 1) / 2))
        else:
            least, most = 0, 2**fmt.bits - 1
            scale = single(single(high - low) / most)
        # Groups of zeros have no scale of their own; any positive one gives code zero.
        scale = max(scale, 2.0**-126)
        inverse = single(1 / scale)
        zero = 0 if fmt.symmetric else round(single(-low * inverse))
        for w in group:
            code = min(max(round(single(w * inverse)) + zero, least), most)
            restored.append(single((code - zero) * half(scale)))
    return restored


@EXAMPLES
@given(WEIGHTS, INTEGERS)
def test_a_slow_scalar_twin_agrees_bit_for_bit(values: Float32Array, fmt: StorageFormat) -> None:
    rows = values.reshape(values.shape[0], -1).tolist()
    expected = weight([slow_round_trip(row, fmt) for row in rows]).reshape(values.shape)
    assert np.array_equal(round_trip(values, fmt), expected)


@EXAMPLES
@given(WEIGHTS, INTEGERS)
def test_the_error_of_a_weight_is_at_most_one_step_unless_it_is_clipped(
    values: Float32Array, fmt: StorageFormat
) -> None:
    rounded = quantize(values, fmt)
    _, groups, size = rounded.codes.shape
    flat = np.pad(
        values.reshape(values.shape[0], -1).astype(float), ((0, 0), (0, groups * size - values[0].size))
    ).reshape(rounded.codes.shape)
    span = np.maximum(flat.max(2), 0) - np.minimum(flat.min(2), 0)
    step = (2 * np.abs(flat).max(2) if fmt.symmetric else span) / (2**fmt.bits - 1)
    # Storing the scale in half precision moves it by 2⁻¹¹ of itself, or by 2⁻²⁵ where it is subnormal.
    allowed = step + np.where(step < 2**-14, 255 * 2.0**-25, 0)
    restored = (rounded.codes - rounded.zeros[..., None]) * rounded.scales.astype(float)[..., None]
    error = np.abs(restored - flat)
    most = 2 ** (fmt.bits - 1) - 1 if fmt.symmetric else 2**fmt.bits - 1
    clipped = rounded.codes == most
    assert (error <= np.where(clipped, 1.5, 1.0) * allowed[..., None]).all()


@EXAMPLES
@given(WEIGHTS, INTEGERS)
def test_codes_stay_within_their_bits(values: Float32Array, fmt: StorageFormat) -> None:
    rounded = quantize(values, fmt)
    least = -(2 ** (fmt.bits - 1)) if fmt.symmetric else 0
    assert rounded.codes.min() >= least
    assert rounded.codes.max() <= least + 2**fmt.bits - 1
    assert rounded.zeros.min() >= 0
    assert rounded.zeros.max() <= (0 if fmt.symmetric else 2**fmt.bits - 1)


@EXAMPLES
@given(
    WEIGHTS, st.one_of(INTEGERS, st.sampled_from([parse_format(name) for name in ("fp16", "bf16", "fp32")]))
)
def test_a_round_trip_keeps_shape_and_kind_however_often(values: Float32Array, fmt: StorageFormat) -> None:
    once = round_trip(values, fmt)
    twice = round_trip(once, fmt)
    assert once.shape == twice.shape == values.shape
    assert once.dtype == twice.dtype == np.float32


@EXAMPLES
@given(WEIGHTS, st.sampled_from(["fp16", "bf16"]))
def test_floating_formats_are_idempotent(values: Float32Array, name: str) -> None:
    once = round_trip(values, parse_format(name))
    assert np.array_equal(round_trip(once, parse_format(name)), once)


def test_more_bits_are_closer() -> None:
    values = np.random.default_rng(2).normal(size=(16, 64)).astype(np.float32)
    errors = [
        float(np.square(round_trip(values, parse_format(f"int{bits}-g16")) - values).sum())
        for bits in range(1, 9)
    ]
    assert errors == sorted(errors, reverse=True)
