"""What people read of a plan."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from allocator import solve
from api.cli.solve import show
from tests.api.cli.profile_files import written
from tests.api.conftest import Run
from tests.api.helpers import random_profile, tiny


def test_people_read_status_objective_gap_budgets_and_plan(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("solve", profile, "-b", "effective_bits=6.5", "-b", "weight_bytes=7 KiB")
    assert (done.code, done.err) == (0, "")
    first, second, third, fourth, note, *table = (line.rstrip() for line in done.out.splitlines())
    assert first == "optimal  Proved: no plan within the budgets is better."
    assert second.startswith("kl = 0.0124, no plan is better (exact, ")
    assert third.startswith("effective_bits: 6.25 of 6.5 bit; one more bit buys ")
    assert fourth.startswith("weight_bytes: 6,400 of 7,168 byte; one more byte buys ")
    assert note == "note: by 'kl' uniform int4-g64 in 68.0% of its bytes is 3.47 × worse than this plan"
    assert [line.split() for line in table] == [
        ["layer", "format"],
        ["up", "int8-g64"],
        ["down", "int4-g64"],
    ]


def test_people_read_how_far_a_baseline_may_be_from_the_best(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("solve", profile, "-b", "effective_bits=6.5", "--solver", "uniform")
    assert done.code == 0
    assert done.out.startswith("feasible  Within every budget")
    assert "no plan is more than 74.59% better (uniform, " in done.out


def test_people_read_of_every_budget_that_cannot_be_kept(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("solve", profile, "-b", "weight_bytes=4000", "-b", "kl=0.02")
    assert done.code == 1
    _, first, second = done.out.splitlines()
    kept = "; with all else kept: 6,400 to 8,448 byte"
    assert first == f"weight_bytes: asked for 4,000 byte, plans reach 4,352 to 8,448 byte{kept}"
    assert second.startswith("kl: asked for 0.02")
    assert "kept" not in second  # no divergence would make 4000 bytes enough


def test_people_read_whole_numbers_in_full(bitalloc: Run, tmp_path: Path) -> None:
    document = tiny()
    document["resources"]["weight_bytes"]["values"] = [[21_760_001, 42_240_002]] * 2
    done = bitalloc("solve", written(tmp_path, document), "-b", "weight_bytes=70 MB")
    assert "weight_bytes: 64,000,003 of 70,000,000 byte; " in done.out


def test_up_to_sixty_layers_are_listed(bitalloc: Run, tmp_path: Path) -> None:
    done = bitalloc("solve", written(tmp_path, random_profile(60)), "-o", "kl")
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()[-60:]]
    assert rows == [[f"layer.{index}", "int8-g64"] for index in range(60)]


def test_more_than_sixty_layers_are_counted(bitalloc: Run, tmp_path: Path) -> None:
    document = random_profile(61)
    done = bitalloc(
        "solve",
        written(tmp_path, document),
        "-o",
        "kl",
        "--pin",
        "layer.1?=int2-g64",
        "--pin",
        "layer.0=int4-g64",
    )
    assert done.code == 0
    assert [line.split() for line in done.out.splitlines()[-4:]] == [
        ["format", "layers"],
        ["int8-g64", "50"],
        ["int2-g64", "10"],
        ["int4-g64", "1"],
    ]
    assert "layer.60" not in done.out


def _shown(profile: dict[str, Any], **fields: Any) -> str:
    console = Console(file=StringIO(), width=200, color_system=None)
    show(solve(profile, **fields), console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_layer_with_brackets_in_its_name_is_shown_whole() -> None:
    shown = _shown(tiny(layers=[{"name": "blocks[attn]"}, {"name": "blocks[mlp]"}]))
    assert "blocks[attn]" in shown
    assert "blocks[mlp]" in shown


def test_a_layer_whose_name_looks_like_a_closing_tag_is_shown() -> None:
    assert "up[/x]" in _shown(tiny(layers=[{"name": "up[/x]"}, {"name": "down"}]))


@pytest.mark.parametrize("limit", [5000, 1])
def test_a_budget_with_brackets_in_its_name_is_shown_whole(limit: int) -> None:
    profile = tiny(resources={"bytes[gpu]": {"values": [[2176, 4224], [2176, 4224]], "unit": "byte"}})
    assert "bytes[gpu]: " in _shown(profile, budgets={"bytes[gpu]": limit})


@pytest.mark.parametrize("fields", [{"budgets": {"kl": 0.02}}, {"budgets": {"kl": 1e-9}}])
def test_amounts_without_a_unit_have_no_space_before_the_punctuation(fields: dict[str, Any]) -> None:
    shown = _shown(tiny(), objective="weight_bytes", **fields)
    assert "0.02 ;" not in shown
    assert " ," not in shown
    assert not any(line.endswith(" ") for line in shown.splitlines() if line.startswith("kl:"))


def test_people_read_the_nearest_amounts_where_the_span_explains_nothing(
    bitalloc: Run, profile: Path
) -> None:
    done = bitalloc(
        "solve", profile, "--limit", '{"table": "weight_bytes", "min": 5000, "max": 5000}', "-o", "kl"
    )
    assert done.code == 1
    assert done.out.splitlines()[1].endswith("; the nearest that can be reached: 4,352 and 6,400")
