"""Tables from data frames are the tables of the same lists, and answers become frames."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest

from allocator import (
    InvalidInputError,
    MissingPackageError,
    frontier,
    load_profile,
    plan_after,
    solve,
    surface,
)
from tests.allocator.profiles import profile_json

ROWS = {"up": (0.5, 0.1), "down": (0.3, None)}
pandas = pytest.importorskip("pandas")


def plain(values: Any, **table: Any) -> dict[str, Any]:
    """A profile of two layers and two formats with these costs."""
    document = profile_json()
    return document | {
        "layers": [{"name": "up", "parameters": 100}, {"name": "down", "parameters": 100}],
        "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        "costs": {
            "kl": values if not table and not isinstance(values, list) else {"values": values, **table}
        },
        "resources": {"weight_bytes": {"values": [[50, 100], [50, 100]], "unit": "byte"}},
    }


EXPECTED = load_profile(plain([list(ROWS["up"]), list(ROWS["down"])]))


def shuffled() -> Any:
    """The costs as pandas has them, rows and columns in another order."""
    frame = pandas.DataFrame(ROWS, index=["int4", "int8"]).T
    return frame.loc[["down", "up"], ["int8", "int4"]]


def polars_frame() -> Any:
    polars = pytest.importorskip("polars")
    return polars.DataFrame({"int8": [None, 0.1], "layer": ["down", "up"], "int4": [0.3, 0.5]})


def arrow_table() -> Any:
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.table({"layer": ["up", "down"], "int4": [0.5, 0.3], "int8": [0.1, None]})


@pytest.mark.parametrize("frame", [shuffled, polars_frame, arrow_table])
@pytest.mark.filterwarnings("ignore:.*interchange")
def test_rows_and_columns_are_matched_by_name(frame: Any) -> None:
    assert load_profile(plain(frame())) == EXPECTED
    assert load_profile(plain(frame(), better="lower")) == EXPECTED
    given = plain([[0.5, 0.1], [0.3, 0.2]], stderr=frame())
    assert load_profile(given).costs["kl"].stderr == ((0.5, 0.1), (0.3, None))


def test_a_frame_without_names_has_its_rows_in_the_order_of_the_layers() -> None:
    assert load_profile(plain(pandas.DataFrame({"int4": [0.5, 0.3], "int8": [0.1, None]}))) == EXPECTED
    with pytest.raises(InvalidInputError, match=r"/costs/kl/values: expected 2 rows, one per layer, got 1"):
        load_profile(plain(pandas.DataFrame({"int4": [0.5], "int8": [0.1]})))


def test_a_resource_comes_in_a_frame_too_and_whole_numbers_stay_whole() -> None:
    table = pandas.DataFrame({"int4": [50, 50], "int8": [100, None]}, index=["up", "down"], dtype="Int64")
    given = plain([[0.5, 0.1], [0.3, 0.1]])
    given["resources"] = {"weight_bytes": {"values": table, "unit": "byte"}}
    profile = load_profile(given)
    assert profile.resources["weight_bytes"].values == ((50, 100), (50, None))
    assert profile.resources["weight_bytes"].whole


@pytest.mark.parametrize(
    ("columns", "index", "message"),
    [
        (
            {"int4": [1.0, 1.0], "int9": [1.0, 1.0]},
            ["up", "down"],
            r"/costs/kl: unknown format 'int9'; did you mean",
        ),
        ({"int4": [1.0, 1.0]}, ["up", "down"], r"/costs/kl: the frame has no format 'int8'"),
        (
            {"int4": [1.0, 1.0], "int8": [1.0, 1.0]},
            ["up", "dwon"],
            r"/costs/kl: unknown layer 'dwon'; did you mean 'down'",
        ),
        (
            {"int4": [1.0] * 3, "int8": [1.0] * 3},
            ["up", "down", "up"],
            r"the frame has more than one layer 'up'",
        ),
        ({"int4": [1.0, 1.0], "int8": [1.0, "?"]}, ["up", "down"], r"/costs/kl/values/1/1: .*\(got '\?'\)"),
        ({"int4": [1.0, 1.0], "int8": [1.0, np.inf]}, ["up", "down"], r"/costs/kl/values/1/1: .*finite"),
    ],
)
def test_frames_that_do_not_fit_are_refused_by_name(columns: Any, index: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load_profile(plain(pandas.DataFrame(columns, index=index)))


def test_a_plan_becomes_a_frame() -> None:
    frame = solve(EXPECTED, budgets={"effective_bits": 6}).to_frame()
    assert frame.index.name == "layer"
    assert frame["format"].to_dict() == {"up": "int8", "down": "int4"}
    with pytest.raises(InvalidInputError, match="there is no plan: the allocation is infeasible"):
        solve(EXPECTED, budgets={"weight_bytes": 1}).to_frame()


def test_a_front_becomes_a_frame() -> None:
    front = frontier(EXPECTED)
    frame = front.to_frame()
    assert frame["spend"].tolist() == front.spend.tolist()
    assert frame["objective"].tolist() == front.objective.tolist()
    assert frame["price"].isna().tolist() == [True, *[False] * (len(frame) - 1)]
    assert plan_after(front, int(frame.index[-1]))["up"] == "int8"


def test_a_surface_becomes_a_frame() -> None:
    found = surface(EXPECTED, ("weight_bytes", "kl"), points=(2, 2), objective="kl")
    frame = found.to_frame()
    assert list(frame.columns) == ["weight_bytes", "kl", "objective", "status"]
    assert len(frame) == len(found.points) > 0


def test_without_pandas_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'bitalloc\[frames\]'"):
        solve(EXPECTED).to_frame()
    assert importlib.import_module("allocator")
