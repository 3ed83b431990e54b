"""Small floats with scales, next to a search over every element and to the gguf package."""

from __future__ import annotations

import math

import gguf
import numpy as np
import pytest

from quantize import parse_format, round_trip
from quantize.rounding.small_floats import scaled

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
#: Exponent and mantissa by hand: subnormals, then 2^(e - 7) · (1 + m / 8); the last pattern is NaN.
E4M3 = [m / 8 * 2**-6 for m in range(8)] + [
    2.0 ** (e - 7) * (1 + m / 8) for e in range(1, 16) for m in range(8) if (e, m) != (15, 7)
]


def slow(values: list[float], elements: list[float], scale: float) -> list[float]:
    """Each weight to the nearest element; between two as near, to the one whose last bit is even."""
    result = []
    for value in values:
        fmt = abs(value) / scale
        near = min(range(len(elements)), key=lambda k: (abs(elements[k] - fmt), k % 2))
        result.append(math.copysign(elements[near] * scale, value))
    return result


@pytest.mark.parametrize(("name", "elements", "top"), [("mxfp4", E2M1, 2), ("mxfp8", E4M3, 8)])
def test_microscaling_is_that_of_a_search_over_every_element(
    name: str, elements: list[float], top: int
) -> None:
    weight = (np.random.default_rng(0).normal(size=(6, 80)) * np.exp2(np.arange(-20, 60))).astype(np.float32)
    weight[1, :32] = 0
    weight[2, :4] = [5.0, 2.5, 1.25, -0.25]  # ties
    expected = []
    for row in weight.astype(float).tolist():
        groups = [row[start : start + 32] for start in range(0, 80, 32)]
        scales = [2.0 ** (math.floor(math.log2(max(map(abs, group)) or 1)) - top) for group in groups]
        expected.append(
            [w for group, scale in zip(groups, scales, strict=True) for w in slow(group, elements, scale)]
        )
    assert np.array_equal(round_trip(weight, parse_format(name)), np.array(expected, dtype=np.float32))


def test_eight_bit_floats_share_a_scale_per_row() -> None:
    weight = np.random.default_rng(1).normal(size=(5, 40)).astype(np.float32)
    made = scaled(weight, parse_format("fp8-e4m3"))
    assert made.scales.shape == (5, 1)
    for row, scale, restored in zip(weight, made.scales[:, 0], made.dequantize(), strict=True):
        assert float(scale) == np.float32(np.abs(row).max()) / np.float32(448)
        expected = slow([float(w / scale) for w in row], E4M3, 1.0)
        assert np.array_equal(restored, np.array(expected, dtype=np.float32) * scale)


def test_four_bits_are_those_of_gguf_but_for_ties() -> None:
    weight = np.random.default_rng(2).normal(size=(8, 96)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.MXFP4
    assert np.array_equal(
        gguf.dequantize(gguf.quantize(weight, kind), kind), round_trip(weight, parse_format("mxfp4"))
    )


@pytest.mark.parametrize("name", ["fp8-e4m3", "mxfp4", "mxfp8"])
def test_zeros_shapes_and_the_ends_of_single_precision_survive(name: str) -> None:
    fmt = parse_format(name)
    assert not round_trip(np.zeros((2, 33), np.float32), fmt).any()
    for size in (3e38, 1e-38, 1e-45):
        kernel = np.full((2, 3, 5, 5), size, dtype=np.float32)
        restored = round_trip(kernel, fmt)
        assert restored.shape == kernel.shape
        assert np.isfinite(restored).all()
    assert round_trip(np.full((1, 3), 3e38, np.float32), fmt)[0, 0] == pytest.approx(3e38, rel=0.25)


@pytest.mark.parametrize(
    ("name", "expected"), [("fp8-e4m3", 2 * (80 + 4)), ("mxfp8", 2 * 3 * 33), ("mxfp4", 2 * 3 * 17)]
)
def test_bytes_count_elements_scales_and_padding(name: str, expected: int) -> None:
    assert parse_format(name).stored_bytes((2, 80)) == expected
