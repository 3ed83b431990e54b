"""How much codes of few bits leave of a weight: next to those of llama.cpp, to three values, and to known constants."""

from __future__ import annotations

import math
from collections.abc import Callable

import gguf
import numpy as np
import pytest

from quantize import parse_format, quantize, round_trip
from quantize.rounding.nearest import round_inputs

TYPES = {"int4-g32": "Q4_0", "int5-g32": "Q5_0", "int8-g32": "Q8_0"}
RNG = np.random.default_rng
DRAWS: dict[str, Callable[[], np.ndarray]] = {
    "gaussian": lambda: RNG(0).normal(size=(64, 512)),
    "heavy-tailed": lambda: RNG(1).standard_t(3, size=(64, 512)),
    "one-sided": lambda: np.abs(RNG(2).normal(size=(64, 512))),
    "negative": lambda: -RNG(3).exponential(size=(64, 512)),
    "a few outliers": lambda: (
        RNG(4).normal(size=(64, 512)) * np.where(RNG(5).random((64, 512)) < 0.01, 20, 1)
    ),
}


def left(weight: np.ndarray, restored: np.ndarray) -> float:
    """Share of the energy of a weight."""
    return float(
        np.square(restored - weight, dtype=np.float64).sum() / np.square(weight, dtype=np.float64).sum()
    )


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("name", TYPES)
def test_codes_leave_no_more_than_those_of_llama_cpp_in_the_same_bytes(name: str, draw: str) -> None:
    weight, kind = DRAWS[draw]().astype(np.float32), gguf.GGMLQuantizationType[TYPES[name]]
    theirs = gguf.quantize(weight, kind)
    assert theirs.nbytes == parse_format(name).stored_bytes(weight.shape)
    errors = [
        left(weight, made) for made in (round_trip(weight, parse_format(name)), gguf.dequantize(theirs, kind))
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("draw", DRAWS)
def test_no_group_leaves_more_than_that_of_llama_cpp_but_for_ties(draw: str) -> None:
    weight = DRAWS[draw]().astype(np.float32)
    theirs = gguf.dequantize(
        gguf.quantize(weight, gguf.GGMLQuantizationType.Q4_0), gguf.GGMLQuantizationType.Q4_0
    )
    ours = round_trip(weight, parse_format("int4-g32"))
    errors = [np.square(made - weight).reshape(-1, 32).sum(axis=1) for made in (ours, theirs)]
    # They choose codes at the scale in single precision: never closer, where the scale that is stored is the same.
    assert (errors[0] <= errors[1] * (1 + 1e-5)).all()


def test_one_bit_leaves_what_the_signs_of_a_gaussian_have_to_leave() -> None:
    # E|w| = √(2/π), so that 1 − 2/π of the energy is left; the mean over a group of 64 fits it a little better.
    weight = RNG(6).normal(size=(64, 2048)).astype(np.float32)
    for name in ("int1", "int1-g64"):
        assert left(weight, round_trip(weight, parse_format(name))) == pytest.approx(
            1 - 2 / math.pi, abs=0.01
        )


def test_the_scale_of_one_bit_is_the_best_for_the_signs() -> None:
    weight = RNG(7).standard_t(3, size=(3, 40)).astype(np.float32)
    made = quantize(weight, parse_format("int1-g16"))
    errors = {
        factor: left(
            weight, (made.codes * made.scales.astype(float)[..., None] * factor).reshape(3, -1)[:, :40]
        )
        for factor in (0.95, 0.99, 1.0, 1.01, 1.05)
    }
    assert min(errors, key=lambda factor: errors[factor]) == 1.0


@pytest.mark.parametrize("name", ["int2-g16", "int2-g64", "int2-g256", "int2"])
def test_two_bits_leave_less_of_a_gaussian_than_any_three_values(name: str) -> None:
    # The best {−s, 0, s} for a Gaussian leaves 0.19 of it; round(w / s) at s = mean |w|, as ternary models have, 0.26.
    weight = RNG(8).normal(size=(32, 2048)).astype(np.float32)
    best = min(
        left(weight, scale * np.clip(np.rint(weight / scale), -1, 1)) for scale in np.arange(0.8, 1.6, 0.02)
    )
    mean = np.abs(weight).mean()
    assert best == pytest.approx(0.19, abs=0.005)
    assert best < left(weight, mean * np.clip(np.rint(weight / mean), -1, 1))
    assert left(weight, round_trip(weight, parse_format(name))) < 0.85 * best


def test_both_signs_of_scales_are_used() -> None:
    for bits in range(2, 9):
        scales = quantize(DRAWS["gaussian"]().astype(np.float32), parse_format(f"int{bits}-g32")).scales
        assert 0.2 < (scales < 0).mean() < 0.6


def test_the_far_end_of_the_codes_is_on_the_side_of_the_extreme_weight() -> None:
    fmt = parse_format("int4")
    up, down = (quantize(sign * np.array([[7.9, -5, 3, 1, 0.2]], np.float32), fmt) for sign in (1, -1))
    assert up.scales[0, 0] < 0 < down.scales[0, 0] == -up.scales[0, 0]
    assert np.array_equal(up.codes, down.codes)
    assert up.codes[0, 0, 0] == -8


@pytest.mark.parametrize("name", ["int2-g16", "int4-g16", "int8", "uint4-g16", "fp8-e4m3"])
def test_inputs_are_rounded_with_scales_that_just_span_them(name: str) -> None:
    fmt, values = parse_format(name), RNG(9).normal(size=(6, 32)).astype(np.float32)
    made = round_inputs(values, fmt)
    if fmt.floating or not fmt.symmetric:
        assert np.array_equal(made, round_trip(values, fmt))
        return
    size = fmt.group_size or 32
    for part, ours in zip(values.reshape(-1, size), made.reshape(-1, size), strict=True):
        scale = np.float32(np.float16(np.abs(part).max() / np.float32((2**fmt.bits - 1) / 2)))
        codes = np.clip(np.rint(part * (1 / scale)), -(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1) - 1)
        assert np.array_equal(ours, codes * scale)
