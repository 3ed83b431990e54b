"""Styles can be told apart without colour, units are readable, files are what their ending says."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib import pyplot

from allocator import MissingPackageError
from bitalloc.plots import new_axes, save
from bitalloc.plots.canvas import STYLES, labelled, readable, shades, shortened, styled
from tests.bitalloc.plots.pictures import lightness


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_picture_is_written_as_its_ending_says(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"front.{ending}"
    save(new_axes(), path)
    start = path.read_bytes()[:5]
    assert start == {"png": b"\x89PNG\r", "svg": b"<?xml", "pdf": b"%PDF-"}[ending]


def test_no_figure_is_left_open() -> None:
    before = pyplot.get_fignums()
    new_axes()
    assert pyplot.get_fignums() == before


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"bitalloc\[plot\]"):
        new_axes()


def test_seven_series_differ_in_colour_marker_and_dash() -> None:
    made = styled([f"table {index}" for index in range(7)])
    for key in ("color", "marker", "linestyle"):
        assert len({str(style[key]) for style in made.values()}) == 7, key


def test_methods_that_are_known_look_alike_everywhere() -> None:
    assert styled(["kl", "uniform"])["uniform"] == STYLES["uniform"]


@pytest.mark.parametrize("count", [2, 5, 8])
def test_shades_grow_lighter_by_steps_that_show_in_grey(count: int) -> None:
    light = [lightness(color) for color in shades(count)]
    assert all(after - before > 60 / count for before, after in pairwise(light))


@pytest.mark.parametrize(
    ("unit", "amounts", "expected"),
    [
        ("byte", [900.0], (1.0, "byte")),
        ("byte", [1e3, 2e9], (1e9, "GB")),
        ("byte", [999_999.0], (1e3, "kB")),
        ("us", [1500.0], (1e3, "ms")),
        ("us", [], (1.0, "µs")),
        ("bop", [1e15], (1.0, "bop")),
    ],
)
def test_units_keep_numbers_short(unit: str, amounts: list[float], expected: tuple[float, str]) -> None:
    assert readable(unit, amounts) == expected


def test_labels_say_the_unit() -> None:
    assert labelled("weight_bytes", "MB") == "weight_bytes (MB)"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.b.c", "a.b.d"], ["c", "d"]),
        (["a.b", "a.b.c"], ["b", "b.c"]),
        (["x", "y.z"], ["x", "y.z"]),
        (["only.one"], ["one"]),
    ],
)
def test_what_all_names_begin_with_is_left_out(names: list[str], expected: list[str]) -> None:
    assert shortened(names) == expected
