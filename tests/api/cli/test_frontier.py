"""``bitalloc frontier``."""

from __future__ import annotations

import json
from pathlib import Path

from allocator import frontier, load_profile
from api.operations.frontier import described
from tests.api.conftest import Run
from tests.api.helpers import tiny


def test_people_read_a_row_for_every_budget_and_where_the_knee_is(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("frontier", profile, "--at", "5000", "--at", "6.5 kB", "--at", "4000")
    assert (done.code, done.err) == (0, "")
    head, *rows, last = [line.split() for line in done.out.splitlines()]
    assert head == ["weight_bytes,", "at", "most", "used", "kl", "status"]
    assert rows == [
        ["5,000", "4,352", "0.043", "optimal"],
        ["6,500", "6,400", "0.0124", "optimal"],
        ["4,000", "infeasible"],
    ]
    assert " ".join(last).startswith("3 supported plans from 4,352 to 8,448 byte; the knee, farthest from")


def test_the_json_is_the_librarys_frontier(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("frontier", profile, "--points", "3", "--json", "--out", "front.json")
    assert (done.code, done.err) == (0, "")
    assert done.out == Path("front.json").read_text()
    found, expected = (
        json.loads(done.out),
        json.loads(described(frontier(tiny(), points=3), load_profile(tiny())).model_dump_json()),
    )
    for answer in [*found["exact"], *expected["exact"]]:
        del answer["solver"]["seconds"]
    assert found == expected


def test_a_picture_is_drawn(bitalloc: Run, profile: Path) -> None:
    assert bitalloc("frontier", profile, "--plot", "front.png").code == 0
    assert Path("front.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_resource_is_refused_before_anything_is_written(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("frontier", profile, "-r", "bytes", "--out", "front.json")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: /resource: unknown budget 'bytes'")
    assert not Path("front.json").exists()
