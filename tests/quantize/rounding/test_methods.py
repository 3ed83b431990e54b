"""Rounding beyond the nearest code, next to slow twins that follow the definitions."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from allocator import InvalidInputError
from quantize import parse_format, quantize
from quantize.formats import StorageFormat
from quantize.rounding.codes import code_range
from quantize.rounding.gptq import compensate
from quantize.rounding.methods import METHODS, Rounding, moment_faults, restored, rounded
from quantize.rounding.moments import output_errors
from quantize.rounding.scale_search import search

FORMATS = ["int2-g16", "int3", "int4-g16", "int4-g12", "uint2-g16", "uint4", "int8-g16", "int1-g8"]
by_format = pytest.mark.parametrize("name", FORMATS)
PLAIN_GPTQ = Rounding("gptq", steps=0)


def weights(seed: int, rows: int = 24, row: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, row)).astype(np.float32)


def moment(seed: int, row: int = 48, *, correlated: bool = True) -> np.ndarray:
    rng = np.random.default_rng(1000 + seed)
    inputs = rng.normal(size=(400, row))
    if correlated:
        inputs = inputs @ rng.normal(size=(row, 6)) @ rng.normal(size=(6, row)) + 0.5 * rng.normal(
            size=(400, row)
        )
    return inputs.T @ inputs


# GPTQ


def slow_gptq(
    weight: np.ndarray, fmt: StorageFormat, second: np.ndarray, damping: float, order: list[int]
) -> np.ndarray:
    """Optimal brain quantization in a fixed order: after each column, the inverse of what is left of H, anew.

    When column q is rounded, the columns F that are left move by −(w_q − ŵ_q) / [H⁻¹]_qq · [H⁻¹]_qF, with H⁻¹ the
    inverse of H over the columns that were still free.
    """
    rows, row = weight.shape
    h = second + damping * np.diag(second).mean() * np.eye(row)
    left = weight.astype(np.float64)
    size = fmt.group_size or row
    static = order != list(range(row))
    codes = np.zeros((rows, row), dtype=np.int64)
    least, most = code_range(fmt)
    spans = {}
    for position, column in enumerate(order):
        group = column // size
        if group not in spans:
            source = weight if static else left
            part = source[:, group * size : (group + 1) * size].astype(np.float32)
            made = quantize(part, replace(fmt, group_size=None))
            spans[group] = made.scales[:, 0].astype(np.float64), made.zeros[:, 0]
        scale, zero = spans[group]
        free = order[position:]
        inverse = np.linalg.inv(h[np.ix_(free, free)])
        for r in range(rows):
            w = left[r, column]
            code = min(max(round(w / scale[r]) + int(zero[r]), least), most)
            if fmt.bits == 1:
                code = -1 if w < 0 else 1
            codes[r, column] = code
            error = w - (code - zero[r]) * scale[r]
            for k, other in enumerate(free):
                left[r, other] -= error / inverse[0, 0] * inverse[0, k]
    return codes


@pytest.mark.parametrize("act_order", [False, True])
@by_format
def test_compensation_is_optimal_brain_quantization_in_order(name: str, act_order: bool) -> None:
    weight, second, fmt = weights(0, rows=6), moment(0), parse_format(name)
    order = list(np.argsort(-np.diag(second), kind="stable")) if act_order else list(range(48))
    expected = slow_gptq(weight, fmt, second, 0.01, order)
    made = compensate(weight, fmt, second, act_order=act_order)
    assert np.array_equal(made.codes.reshape(6, -1)[:, :48], expected)


def test_rows_longer_than_a_block_are_compensated_as_one() -> None:
    weight, second, fmt = weights(1, rows=2, row=160), moment(1, row=160), parse_format("int3-g32")
    expected = slow_gptq(weight, fmt, second, 0.01, list(range(160)))
    assert np.array_equal(compensate(weight, fmt, second).codes.reshape(2, -1), expected)


@by_format
@pytest.mark.parametrize("steps", [0, 20])
def test_compensation_never_errs_more_than_the_nearest_codes(name: str, steps: int) -> None:
    fmt = parse_format(name)
    for seed, correlated in itertools.product(range(4), [True, False]):
        weight, second = weights(seed), moment(seed, correlated=correlated)
        ours = output_errors(
            rounded(weight, fmt, Rounding("gptq", steps=steps), second).dequantize() - weight, second
        )
        plain = output_errors(quantize(weight, fmt).dequantize() - weight, second)
        assert (ours <= plain * (1 + 1e-12)).all()


@pytest.mark.parametrize(
    ("name", "share"), [("int2-g16", 0.45), ("int3-g16", 0.35), ("int4-g16", 0.3), ("uint4-g16", 0.3)]
)
def test_compensation_is_clearly_better_where_inputs_are_correlated(name: str, share: float) -> None:
    fmt = parse_format(name)
    ratios = []
    for seed in range(5):
        weight, second = weights(seed, rows=64), moment(seed)
        ours = output_errors(rounded(weight, fmt, PLAIN_GPTQ, second).dequantize() - weight, second).sum()
        ratios.append(ours / output_errors(quantize(weight, fmt).dequantize() - weight, second).sum())
    assert max(ratios) < share


def test_what_compensation_finds_is_near_the_true_optimum() -> None:
    # Every one of the 4^6 rows of codes at the scale of the group, by enumeration.
    fmt, second = parse_format("int2"), moment(3, row=6)
    for seed in range(5):
        weight = weights(seed, rows=1, row=6)
        scale = float(quantize(weight, fmt).scales[0, 0])
        every = np.array(list(itertools.product(range(-2, 2), repeat=6))) * scale
        best = output_errors(every - weight, second).min()
        ours = output_errors(rounded(weight, fmt, PLAIN_GPTQ, second).dequantize() - weight, second)[0]
        plain = output_errors(quantize(weight, fmt).dequantize() - weight, second)[0]
        assert best * (1 - 1e-3) <= ours <= plain


def test_inputs_that_are_always_zero_are_rounded_to_the_nearest() -> None:
    weight, second = weights(4), moment(4)
    second[5], second[:, 5] = 0, 0
    made = compensate(weight, parse_format("int4"), second)
    expected = np.clip(np.rint(weight[:, 5] / made.scales[:, 0].astype(float)), -8, 7)
    assert np.array_equal(made.codes[:, 0, 5], expected)


def test_without_any_input_every_code_is_the_nearest_at_the_stored_scale() -> None:
    weight = weights(4)
    made = rounded(weight, parse_format("int4-g16"), PLAIN_GPTQ, np.zeros((48, 48)))
    assert np.array_equal(made.codes, quantize(weight, parse_format("int4-g16")).codes)


def test_each_group_of_a_convolution_has_a_moment_of_its_own() -> None:
    kernel = np.random.default_rng(5).normal(size=(8, 3, 2, 2)).astype(np.float32)
    seconds = np.stack([moment(6, row=12), moment(7, row=12)])
    made = rounded(kernel, parse_format("int3-g4"), PLAIN_GPTQ, seconds).dequantize()
    for half, second in ((slice(0, 4), seconds[0]), (slice(4, 8), seconds[1])):
        assert np.array_equal(made[half], restored(kernel[half], parse_format("int3-g4"), PLAIN_GPTQ, second))


def test_entries_of_a_table_have_nothing_to_make_up_for_each_other() -> None:
    weight, counts = weights(8), np.arange(24)
    assert np.array_equal(
        restored(weight, parse_format("int4-g16"), PLAIN_GPTQ, counts),
        quantize(weight, parse_format("int4-g16")).dequantize(),
    )


# Scale search


def slow_search(weight: np.ndarray, fmt: StorageFormat, steps: int, importance: np.ndarray) -> np.ndarray:
    """Row by row, group by group, weight by weight; plain rounding first."""
    size = fmt.group_size or weight.shape[1]
    least, most = code_range(fmt)
    plain = quantize(weight, fmt)
    result = plain.dequantize().copy()
    for r, start in itertools.product(range(len(weight)), range(0, weight.shape[1], size)):
        part, h = weight[r, start : start + size], importance[start : start + size]
        base, zero = searched_from(part, fmt)
        best = result[r, start : start + size].copy()
        error = float((h * (part.astype(float) - best) ** 2).sum())
        for factor in np.linspace(0.3, 1.2, steps, dtype=np.float32):
            scale = np.float32(np.float16(base * factor))
            inverse = np.float32(1) / scale
            values = [(min(max(np.rint(w * inverse) + zero, least), most) - zero) * scale for w in part]
            if fmt.bits == 1:
                values = [-scale if w < 0 else scale for w in part]
            here = float((h * (part.astype(float) - np.array(values)) ** 2).sum())
            if here < error * (1 - 1e-12):
                best, error = np.array(values), here
        result[r, start : start + size] = best
    return result


def searched_from(part: np.ndarray, fmt: StorageFormat) -> tuple[np.float32, np.float32]:
    low, high = min(part.min(), np.float32(0)), max(part.max(), np.float32(0))
    if not fmt.symmetric:
        scale = (high - low) / np.float32(2**fmt.bits - 1)
        return scale, np.rint(-low * (np.float32(1) / scale))
    if fmt.bits == 1:
        return np.float32(np.abs(part.astype(float)).mean()), np.float32(0)
    scale = max(-low, high) / np.float32((2**fmt.bits - 1) / 2)
    return (-scale if high > -low else scale), np.float32(0)


@by_format
@pytest.mark.parametrize("weighted", [False, True])
def test_the_search_is_that_of_a_slow_twin(name: str, weighted: bool) -> None:
    weight, fmt = weights(9, rows=4), parse_format(name)
    importance = np.random.default_rng(9).uniform(0.1, 5, size=48) if weighted else np.ones(48)
    ours = search(weight, fmt, 17, importance if weighted else None).dequantize()
    assert np.array_equal(ours, slow_search(weight, fmt, 17, importance))


@by_format
def test_searched_scales_never_err_more_and_help_at_few_bits(name: str) -> None:
    weight, fmt = weights(10, rows=64), parse_format(name)
    plain = np.square(quantize(weight, fmt).dequantize() - weight).sum(axis=1)
    ours = np.square(restored(weight, fmt, Rounding("scale_search")) - weight).sum(axis=1)
    assert (ours <= plain * (1 + 1e-6)).all()
    if fmt.bits == 1:  # the mean of |w| is the best scale there is
        assert np.array_equal(ours, plain)
    elif fmt.bits <= 4:  # two bits have tried several already
        assert ours.sum() < (0.99 if fmt.bits == 2 and fmt.symmetric else 0.97) * plain.sum()


def test_moments_weigh_the_search() -> None:
    # The first input is the only one that matters, so that its weight is met and the largest one is clipped.
    weight = np.array([[0.45, 10, 0, 0]], dtype=np.float32)
    second = np.diag([1e6, 1, 1, 1])
    rounding = Rounding("scale_search", steps=200)
    weighted = restored(weight, parse_format("int3"), rounding, second)
    assert abs(weighted[0, 0] - 0.45) < abs(restored(weight, parse_format("int3"), rounding)[0, 0] - 0.45)


# The descriptor


@by_format
@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_to_the_format(name: str, method: str) -> None:
    weight, fmt = weights(11), parse_format(name)
    made = rounded(weight, fmt, Rounding(method, act_order=True), moment(11))
    plain = quantize(weight, fmt)
    assert made.codes.shape == plain.codes.shape
    assert made.scales.dtype == np.float16
    least, most = code_range(fmt)
    assert made.codes.min() >= least
    assert made.codes.max() <= most
    assert np.isfinite(made.dequantize()).all()
    padding = made.codes.reshape(24, -1)[:, 48:]
    assert np.array_equal(padding, np.repeat(made.zeros[:, -1:], padding.shape[1], axis=1))


@pytest.mark.parametrize("method", METHODS)
def test_floating_formats_have_one_way_of_rounding(method: str) -> None:
    weight = weights(12)
    assert np.array_equal(restored(weight, parse_format("fp16"), Rounding(method)), weight.astype(np.float16))


@pytest.mark.parametrize("method", METHODS)
def test_rounding_is_repeatable_and_leaves_its_inputs_alone(method: str) -> None:
    weight, second = weights(13), moment(13)
    before = weight.copy(), second.copy()
    first, again = (rounded(weight, parse_format("int3-g16"), Rounding(method), second) for _ in range(2))
    assert np.array_equal(first.codes, again.codes)
    assert np.array_equal(first.scales, again.scales)
    assert np.array_equal(weight, before[0])
    assert np.array_equal(second, before[1])


@pytest.mark.parametrize("method", METHODS)
def test_zeros_stay_zero(method: str) -> None:
    assert not restored(
        np.zeros((3, 48), np.float32), parse_format("int4-g16"), Rounding(method), moment(14)
    ).any()


# Refusals


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"method": "gptqq"}, "/rounding/method: unknown rounding 'gptqq'; did you mean 'gptq'"),
        ({"method": "scale_search", "steps": 0}, "/rounding/steps: expected at least 1, got 0"),
        ({"method": "gptq", "damping": 0}, "/rounding/damping: expected a positive number, got 0"),
        (
            {"method": "gptq", "damping": float("nan")},
            "/rounding/damping: expected a positive number, got nan",
        ),
    ],
)
def test_fields_out_of_range_are_refused(fields: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        Rounding(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (None, "/moment: gptq needs the second moment of the layer's inputs, got none"),
        (np.eye(47), r"/moment: expected \(48, 48\), \(G, 48, 48\).* got \(47, 47\)"),
        (np.stack([np.eye(48)] * 5), r"/moment: expected .* got \(5, 48, 48\)"),
        (np.full((48, 48), np.nan), "/moment: holds NaN or infinity"),
        (
            -np.eye(48) - 2 * np.ones((48, 48)),
            "/moment: expected a second moment XᵀX, got a matrix with directions below",
        ),
    ],
)
def test_moments_that_do_not_fit_are_refused(given: np.ndarray | None, match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        rounded(weights(0), parse_format("int4"), PLAIN_GPTQ, given)


def test_every_layer_without_a_moment_is_named() -> None:
    plan = {name: parse_format(kind) for name, kind in {"up": "int4", "down": "int2", "head": "fp16"}.items()}
    shapes = dict.fromkeys(plan, (24, 48))
    faults = moment_faults(shapes, plan, PLAIN_GPTQ, {"down": np.eye(3)})
    assert [str(fault).split(":")[0] for fault in faults] == ["/moments/up", "/moments/down"]
    assert moment_faults(shapes, plan, Rounding(), None) == []
    assert moment_faults(shapes, plan, Rounding("scale_search"), None) == []
