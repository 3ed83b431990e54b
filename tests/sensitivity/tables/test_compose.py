"""Tables made of tables: by hand, and with random numbers for the errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator import CostTable, InvalidInputError
from sensitivity.tables.compose import blend, ranks, scaled

ERROR = CostTable(values=((4.0, 1.0), (2.0, None)), stderr=((0.4, 0.1), (0.2, None)), meaning="squared error")
PLAIN = CostTable(values=((4.0, 1.0), (2.0, 0.0)), meaning="squared error")


def test_every_row_is_scaled_by_its_importance() -> None:
    made = scaled([0.5, -2.0], ERROR, meaning="relevance")
    assert made.values == ((2.0, 0.5), (-4.0, None))
    assert made.stderr == ((0.2, 0.05), (0.4, None))
    assert made.meaning == "relevance × squared error"
    assert scaled([0.5, 2.0], PLAIN).stderr is None


def test_errors_of_products_are_those_of_independent_factors() -> None:
    rng = np.random.default_rng(0)
    products = rng.normal(3, 0.5, 200_000) * rng.normal(2, 0.3, 200_000)
    error = CostTable(values=((2.0,),), stderr=((0.3,),))
    made = scaled([3.0], error, importance_stderr=[0.5])
    assert made.stderr is not None
    assert made.stderr[0][0] == pytest.approx(products.std(), rel=0.01)
    only = scaled([3.0], CostTable(values=((2.0,),)), importance_stderr=[0.5])
    assert only.stderr == ((1.0,),)


@pytest.mark.parametrize(
    ("importance", "options", "detail"),
    [
        ([1.0], {}, r"/importance: expected 2 finite numbers, one per layer, got shape \(1,\)"),
        ([1.0, float("nan")], {}, "/importance: expected 2 finite numbers"),
        ([1.0, 1.0], {"importance_stderr": [1.0]}, "/importance_stderr: expected 2 finite numbers"),
    ],
)
def test_importances_that_do_not_fit_are_refused(importance: list[float], options: Any, detail: str) -> None:
    with pytest.raises(InvalidInputError, match=detail):
        scaled(importance, ERROR, **options)


def test_an_error_to_maximise_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="/error: expected a table where lower is better"):
        scaled([1.0], CostTable(values=((1.0,),), better="higher"))


def test_a_blend_by_hand() -> None:
    # Mean sizes are 7 / 3 and 30 / 4; raw numbers are added as they are.
    other = CostTable(values=((10.0, 10.0), (10.0, 0.0)), stderr=((1.0, 1.0), (1.0, 0.0)))
    tables = {"a": ERROR, "b": other}
    raw = blend(tables, {"a": 1.0, "b": 2.0}, normalise=False)
    assert raw.values == ((24.0, 21.0), (22.0, None))
    assert raw.stderr is not None
    assert raw.stderr[0][0] == pytest.approx((0.4**2 + 2.0**2) ** 0.5)
    assert raw.stderr[1][1] is None
    assert raw.meaning == "1 × a + 2 × b"
    made = blend(tables, {"a": 1.0, "b": 2.0})
    assert made.values[0][0] == pytest.approx(4 / (7 / 3) + 2 * 10 / 7.5)
    assert blend({"a": ERROR, "b": PLAIN}, {"a": 1.0, "b": 1.0}).stderr is None


def test_a_table_of_zeros_can_be_blended() -> None:
    zeros = CostTable(values=((0.0, 0.0),))
    assert blend({"a": zeros, "b": CostTable(values=((1.0, 3.0),))}, {"a": 1, "b": 1}).values == ((0.5, 1.5),)


def test_tables_to_maximise_stay_so() -> None:
    table = CostTable(values=((1.0, 3.0),), better="higher")
    assert blend({"snr": table}, {"snr": 1.0}).better == "higher"


@pytest.mark.parametrize(
    ("weights", "detail"),
    [
        ({}, "/weights: expected at least one table"),
        ({"c": 1.0}, "/weights: unknown table 'c'; known: 'a', 'up', 'wide'"),
        ({"a": float("inf")}, "/weights/a: expected a finite number, got inf"),
        ({"a": 1.0, "up": 1.0}, "/weights: tables where lower is better and tables where higher"),
        ({"a": 1.0, "wide": 1.0}, r"/tables: expected tables of one shape, got a \(2, 2\), wide \(1, 3\)"),
    ],
)
def test_blends_that_make_no_sense_are_refused(weights: dict[str, float], detail: str) -> None:
    tables = {
        "a": ERROR,
        "up": CostTable(values=((1.0, 1.0),) * 2, better="higher"),
        "wide": CostTable(values=((1.0, 1.0, 1.0),)),
    }
    with pytest.raises(InvalidInputError, match=detail):
        blend(tables, weights)


@given(st.lists(st.integers(-3, 3), min_size=4, max_size=4), st.booleans())
def test_ranks_count_what_is_better(entries: list[int], higher: bool) -> None:
    values = np.array(entries, dtype=float).reshape(2, 2)
    better = "higher" if higher else "lower"
    made = np.array(ranks(CostTable(values=tuple(map(tuple, values.tolist())), better=better)).values)
    signed = -values if higher else values
    for value, rank in zip(signed.flat, made.flat, strict=True):
        assert rank == (signed < value).sum() + ((signed == value).sum() + 1) / 2


def test_ranks_leave_nulls_out() -> None:
    made = ranks(ERROR)
    assert made.values == ((3.0, 1.0), (2.0, None))
    assert made.meaning == "rank of: squared error"
