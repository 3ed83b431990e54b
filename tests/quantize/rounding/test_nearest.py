"""Reference rounding: cases worked out by hand, and a slow scalar twin written from the formula."""

from __future__ import annotations

import math
import struct
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike

from allocator import InvalidInputError
from quantize import Quantized, StorageFormat, parse_format, quantize, round_trip
from quantize.rounding.codes import Float32Array, code_range, grouped

GROUPS = st.sampled_from(["", "-g1", "-g2", "-g3", "-g5", "-g16"])
INTEGERS = st.builds(
    lambda unsigned, bits, group: parse_format(f"{unsigned}int{bits}{group}"),
    st.sampled_from(["", "u"]),
    st.integers(1, 8),
    GROUPS,
)
SHAPES = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)
#: Half precision is finite up to 65504 and one bit halves the range: larger weights are another test's business.
WEIGHTS = SHAPES.flatmap(
    lambda shape: arrays(
        np.float32, shape, elements=st.floats(-30_000, 30_000, width=32, allow_subnormal=True)
    )
)
EXAMPLES = settings(max_examples=300, deadline=None, derandomize=True)
FEWER = settings(max_examples=100, deadline=None, derandomize=True)


def weight(rows: ArrayLike) -> Float32Array:
    return np.array(rows, dtype=np.float32)


# Cases worked out by hand


def test_symmetric_two_bits() -> None:
    # 3 / 1.5 = 2 leaves 1 + 1 + 1 + 1; -3 / -2 = 1.5 leaves 1.5² + 0.5² + 0.5² + 0; 3 / 1 = 3 leaves 0 + 1 + 1 + 0
    rounded = quantize(weight([[3, -1, 1, -3]]), parse_format("int2"))
    assert rounded.codes.tolist() == [[[1, 0, 0, -1]]]
    assert rounded.scales.tolist() == [[3]]
    assert rounded.zeros.tolist() == [[0]]
    assert rounded.dequantize().tolist() == [[3, 0, 0, -3]]


def test_symmetric_four_bits_in_groups() -> None:
    # first group: 15 / -8 = -1.875 meets 15 with -8 and -5 with 3, 0.625 off; 15 / 7.5 is 1 off twice, 15 / 7 0.71 once
    # second group: -0.9375 / -8 = 0.1171875 exactly; 0.25 / s = 2.13 is 0.016 off, less than with 1 / 8 or 0.9375 / 7
    rounded = quantize(weight([[15, -5, 0.25, -0.9375]]), parse_format("int4-g2"))
    assert rounded.codes.tolist() == [[[-8, 3], [2, -8]]]
    assert rounded.scales.tolist() == [[-1.875, 0.1171875]]
    assert rounded.dequantize().tolist() == [[15, -5.625, 0.234375, -0.9375]]


def test_the_range_stays_centred_where_that_leaves_least() -> None:
    # 7.5 / 7.5 = 1 leaves 0.5² and meets the other four; 7.5 / -8 and 7.5 / 7 miss each of them by 0.06 of it and more
    rounded = quantize(weight([[7.5, 6, -6, 6, -6]]), parse_format("int4"))
    assert rounded.codes.tolist() == [[[7, 6, -6, 6, -6]]]
    assert rounded.scales.tolist() == [[1]]


def test_of_scales_that_leave_as_little_the_first_is_taken() -> None:
    # one weight is met by -8 · (8 / -8), which comes before 7 · (8 / 7); 8 / 7.5 misses it
    rounded = quantize(weight([[8]]), parse_format("int4"))
    assert (rounded.codes.tolist(), rounded.scales.tolist()) == ([[[-8]]], [[-1]])


def test_two_bits_take_a_scale_that_fits_the_codes() -> None:
    # 4 / -2 = -2 leaves 1 in each of four: -1 or 0 for 1. Σ w q / Σ q² of the codes (-2, 0, 0, 0, 0) is -2 again, so
    # the start decides; 4 / 1.5 and 4 / 1 leave more. With 1.25 the codes -1 are nearer: Σ w q / Σ q² = 13 / 8.
    rounded = quantize(weight([[4, 1.25, 1.25, 1.25, 1.25]]), parse_format("int2"))
    assert rounded.codes.tolist() == [[[-2, -1, -1, -1, -1]]]
    assert rounded.scales.tolist() == [[-1.625]]


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
    # 5 weights in groups of 3: the second group is (4, -2, padding)
    rounded = quantize(weight([[3, 0, 0, 4, -2]]), parse_format("int2-g3"))
    assert rounded.codes.tolist() == [[[-2, 0, 0], [-2, 1, 0]]]
    assert rounded.scales.tolist() == [[-1.5, -2]]
    assert rounded.dequantize().tolist() == [[3, 0, 0, 4, -2]]


def test_padding_of_asymmetric_groups_stands_for_zero() -> None:
    # [-3, 0] with s = 1: z = 3, and the two padded weights take the code of zero
    rounded = quantize(weight([[-3, -1]]), parse_format("uint2-g4"))
    assert rounded.codes.tolist() == [[[0, 2, 3, 3]]]
    assert rounded.dequantize().tolist() == [[-3, -1]]


def test_each_row_has_a_scale_of_its_own() -> None:
    # 127.5 / -128 = -255/256 exactly: 1 is 1/256 off
    rounded = quantize(weight([[127.5, 1], [255, 2]]), parse_format("int8"))
    assert rounded.scales.tolist() == [[-255 / 256], [-255 / 128]]
    assert rounded.codes.tolist() == [[[-128, -1]], [[-128, -1]]]


def test_a_convolution_is_grouped_across_its_channels_and_kernel() -> None:
    # rows of 2 · 1 · 2 = 4 weights; the first group of a row is the kernel of its first channel
    kernel = weight([[[[3, 0]], [[0, 6]]], [[[-3, 0]], [[0, 0]]]])
    rounded = quantize(kernel, parse_format("int2-g2"))
    assert rounded.codes.shape == (2, 2, 2)
    assert rounded.scales.tolist() == [[-1.5, -3], [1.5, 0]]
    assert np.array_equal(rounded.dequantize(), kernel)


def test_one_symmetric_bit_is_the_sign_of_a_weight() -> None:
    # s = (1 + 1 + 0.25 + 0.75 + 0) / 5 = 0.6, in half precision; a weight of zero counts as positive
    rounded = quantize(weight([[1, -1, 0.25, -0.75, 0]]), parse_format("int1"))
    s = float(np.float16(0.6))
    assert rounded.codes.tolist() == [[[1, -1, 1, -1, 1]]]
    assert rounded.dequantize().tolist() == [[s, -s, s, -s, s]]


def test_padding_has_no_part_in_the_scale_of_one_bit() -> None:
    rounded = quantize(weight([[1, -1, 1, 2]]), parse_format("int1-g3"))
    assert rounded.scales.tolist() == [[1, 2]]
    assert rounded.dequantize().tolist() == [[1, -1, 1, 2]]


def test_one_asymmetric_bit_keeps_the_ends_of_the_range() -> None:
    assert round_trip(weight([[0, 1, 0.4, 0.6]]), parse_format("uint1")).tolist() == [[0, 1, 0, 1]]


def test_codes_are_chosen_with_the_scale_that_is_stored() -> None:
    # s = 3.0015 / 3 = 1.0005, stored as 1.0009765625; 1.5008 is 1.50005 of the one and 1.4993 of the other
    rounded = quantize(weight([[0, 3.0015, 1.5008]]), parse_format("uint2"))
    assert rounded.scales.tolist() == [[1.0009765625]]
    assert rounded.codes.tolist() == [[[0, 3, 1]]]


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


@pytest.mark.parametrize("name", ["int1", "int2", "int4-g2", "int8", "uint4-g2", "uint8"])
def test_groups_of_zeros_stay_zero(name: str) -> None:
    rounded = quantize(np.zeros((2, 4), dtype=np.float32), parse_format(name))
    assert not rounded.scales.any() or not rounded.codes.any()
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
    ("name", "largest"), [("int1", 80_000), ("int2", 1.4e5), ("int8", 1e7), ("uint1", 1e5), ("uint8", 2e7)]
)
def test_scales_beyond_half_precision_are_refused(name: str, largest: float) -> None:
    detail = r"/weight: weights reach .*, which needs scales beyond half precision; use bf16 or fp32"
    with pytest.raises(InvalidInputError, match=detail):
        quantize(weight([[largest, 0]]), parse_format(name))


@pytest.mark.parametrize(
    ("name", "largest", "scale"),
    [
        ("int1", 65504, 32752), ("int2", 65504 * 2, -65504), ("int8", 65504 * 128, -65504),
        ("uint8", 65504 * 255, 65504),
    ],
)  # fmt: skip
def test_the_largest_scale_of_half_precision_is_accepted(name: str, largest: float, scale: float) -> None:
    rounded = quantize(weight([[largest, 0]]), parse_format(name))
    assert rounded.scales.tolist() == [[scale]]
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
    """One row, weight by weight, from the formulas in the docstrings of quantize.rounding.nearest and scales."""
    size = fmt.group_size or len(values)
    restored = []
    for start in range(0, len(values), size):
        group = values[start : start + size]
        if not fmt.symmetric:
            restored += slow_asymmetric(group, fmt)
        elif fmt.bits == 1:
            scale = half(single(sum(map(abs, group)) / len(group)))
            restored += [-scale if w < 0 else scale for w in group]
        else:
            codes, scale = slow_symmetric(group, fmt)
            restored += [single(code * scale) for code in codes]
    return restored


def slow_asymmetric(group: list[float], fmt: StorageFormat) -> list[float]:
    low, high, most = min(0.0, *group), max(0.0, *group), 2**fmt.bits - 1
    # Groups of zeros have no scale of their own; any positive one gives code zero.
    scale = max(single(single(high - low) / most), 2.0**-126)
    zero = round(single(-low * single(1 / scale)))
    codes = [code + zero for code in slow_codes(group, half(scale), -zero, most - zero)]
    return [single((code - zero) * half(scale)) for code in codes]


def slow_codes(group: list[float], scale: float, least: int, most: int) -> list[int]:
    inverse = single(1 / scale) if scale else 0.0
    return [min(max(round(single(w * inverse)), least), most) for w in group]


def slow_symmetric(group: list[float], fmt: StorageFormat) -> tuple[list[int], float]:
    least, most = -(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1) - 1
    largest = max(map(abs, group))
    extreme = -largest if -largest in group else largest
    best: tuple[float, list[int], float] | None = None
    tried = [largest / ((2**fmt.bits - 1) / 2), extreme / least, largest / most]
    refit: list[int] = []
    for attempt in range(9 if fmt.bits == 2 else 3):
        if attempt >= 3:
            refit = best[1] if attempt == 3 and best is not None else refit
            square = sum(q * q for q in refit)
            tried.append(
                math.fsum(w * q for w, q in zip(group, refit, strict=True)) / square if square else 0.0
            )
        scale = half(single(tried[attempt]))
        refit = slow_codes(group, scale, least, most)
        left = math.fsum(single(w - q * scale) ** 2 for w, q in zip(group, refit, strict=True))
        if best is None or left < best[0]:
            best = left, refit, scale
    assert best is not None
    return best[1], best[2]


@EXAMPLES
@given(WEIGHTS, INTEGERS)
@pytest.mark.thorough
def test_a_slow_scalar_twin_agrees_bit_for_bit(values: Float32Array, fmt: StorageFormat) -> None:
    rows = values.reshape(values.shape[0], -1).tolist()
    expected = weight([slow_round_trip(row, fmt) for row in rows]).reshape(values.shape)
    assert np.array_equal(round_trip(values, fmt), expected)


@EXAMPLES
@given(WEIGHTS, INTEGERS)
@pytest.mark.thorough
def test_a_weight_is_at_most_half_a_step_off_unless_it_is_clipped(
    values: Float32Array, fmt: StorageFormat
) -> None:
    rounded = quantize(values, fmt)
    error = np.abs(grouped(values, fmt).astype(float) - expanded(rounded))
    least, most = code_range(fmt)
    inside = (rounded.codes > least) & (rounded.codes < most)
    step = np.abs(rounded.scales.astype(float))[..., None]
    # A scale that is zero in half precision leaves the whole weight, which is less than 2⁻²⁴ in steps of the codes.
    allowed = np.where(step == 0, (most - least) * 2.0**-24, step / 2 * (1 + 1e-5))
    assert (error <= allowed)[inside].all()


def expanded(rounded: Quantized) -> np.ndarray:
    return (rounded.codes - rounded.zeros[..., None].astype(int)) * rounded.scales.astype(float)[..., None]


@FEWER
@given(WEIGHTS, INTEGERS)
def test_no_group_errs_more_than_with_the_positive_scale_that_spans_it(
    values: Float32Array, fmt: StorageFormat
) -> None:
    groups = grouped(values, fmt)
    spanned = spanned_by_hand(groups, fmt)
    ours = np.square(groups - expanded(quantize(values, fmt))).sum(axis=2)
    theirs = np.square(groups - spanned).sum(axis=2)
    energy = np.square(groups.astype(float)).sum(axis=2)
    padded = groups.shape[1] * groups.shape[2] - values[0].size
    if not (fmt.bits == 1 and padded):  # the padding of one bit is no weight, and not zero
        assert (ours <= theirs * (1 + 1e-6) + 1e-12 * energy).all()


def spanned_by_hand(groups: Float32Array, fmt: StorageFormat) -> np.ndarray:
    if not fmt.symmetric:
        low, high = np.minimum(groups.min(2), 0), np.maximum(groups.max(2), 0)
        scales = np.maximum((high - low) / np.float32(2**fmt.bits - 1), np.float32(2.0**-126))[..., None]
        zeros = np.rint(-low[..., None] * (np.float32(1) / scales))
        codes = np.clip(np.rint(groups * (np.float32(1) / scales)) + zeros, 0, 2**fmt.bits - 1)
        return (codes - zeros) * scales.astype(np.float16).astype(float)
    scales = np.maximum(np.abs(groups).max(2) / np.float32((2**fmt.bits - 1) / 2), np.float32(2.0**-126))[
        ..., None
    ]
    codes = np.clip(
        np.rint(groups * (np.float32(1) / scales)), -(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1) - 1
    )
    return codes * np.minimum(scales, 65504).astype(np.float16).astype(float)


@EXAMPLES
@given(WEIGHTS, INTEGERS)
@pytest.mark.thorough
def test_codes_stay_within_their_bits(values: Float32Array, fmt: StorageFormat) -> None:
    rounded = quantize(values, fmt)
    least = -(2 ** (fmt.bits - 1)) if fmt.symmetric else 0
    assert rounded.codes.min() >= least
    assert rounded.codes.max() <= (1 if fmt.bits == 1 else least + 2**fmt.bits - 1)
    assert fmt.bits > 1 or not fmt.symmetric or set(np.unique(rounded.codes)) <= {-1, 1}
    assert rounded.zeros.min() >= 0
    assert rounded.zeros.max() <= (0 if fmt.symmetric else 2**fmt.bits - 1)


@FEWER
@given(WEIGHTS, st.builds(lambda bits, group: parse_format(f"int{bits}{group}"), st.integers(1, 8), GROUPS))
def test_rounding_twice_is_rounding_once(values: Float32Array, fmt: StorageFormat) -> None:
    made = quantize(values, fmt)
    again = quantize(made.dequantize(), fmt)
    # Below 2⁻¹⁴ half precision has too few bits for a scale to be found again from codes times itself.
    normal = (np.abs(made.scales) >= 2.0**-14) | (made.scales == 0)
    assert np.array_equal(expanded(made)[normal], expanded(again)[normal])


@EXAMPLES
@given(
    WEIGHTS, st.one_of(INTEGERS, st.sampled_from([parse_format(name) for name in ("fp16", "bf16", "fp32")]))
)
@pytest.mark.thorough
def test_a_round_trip_keeps_shape_and_kind_however_often(values: Float32Array, fmt: StorageFormat) -> None:
    once = round_trip(values, fmt)
    twice = round_trip(once, fmt)
    assert once.shape == twice.shape == values.shape
    assert once.dtype == twice.dtype == np.float32


@EXAMPLES
@given(WEIGHTS, st.sampled_from(["fp16", "bf16"]))
@pytest.mark.thorough
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
