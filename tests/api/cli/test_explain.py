"""``bitalloc explain``."""

from __future__ import annotations

import json
from pathlib import Path

from allocator import explain
from tests.api.conftest import Run
from tests.api.helpers import comparable, tiny


def noisy(folder: Path) -> Path:
    document = tiny()
    document["costs"]["kl"]["stderr"] = [[0.02, 0.0], [0.01, 0.0]]
    path = folder / "noisy.json"
    path.write_text(json.dumps(document))
    return path


def test_people_read_moves_baselines_and_alternatives(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("explain", profile, "-b", "weight_bytes=6.5 kB", "--layer", "down")
    assert (done.code, done.err) == (0, "")
    assert "next upgrade: down to int8-g64: kl -0.0118, weight_bytes +2,048" in done.out
    assert "next downgrade: up to int4-g64: kl +0.0306, weight_bytes -2,048" in done.out
    assert "uniform: 0.043, 3.47 × the plan's (246.8% worse)" in done.out
    table = [line.split() for line in done.out.splitlines() if line.startswith("int")]
    assert [(row[0], row[-1]) for row in table] == [("int4-g64", "chosen"), ("int8-g64", "worse")]


def test_people_read_what_would_have_to_give_way(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("explain", profile, "-b", "weight_bytes=5000", "-b", "kl=0.02", "--pin", "up=int8-g64")
    assert done.code == 1
    assert "cannot all be kept: /budgets/weight_bytes, /budgets/kl\n" in done.out
    assert "would be enough: weight_bytes of at most 6,400 byte\n" in done.out


def test_people_read_how_sure_the_plan_is(bitalloc: Run, tmp_path: Path) -> None:
    done = bitalloc("explain", noisy(tmp_path), "-b", "weight_bytes=6.5 kB", "--resamples", "200")
    assert done.code == 0
    assert "of 200 resamples; objective ± 0.01" in done.out
    assert "measure next: " in done.out
    assert done.err == ""  # no terminal, no bar


def test_json_is_the_librarys_explanation(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("explain", profile, "-b", "weight_bytes=6.5 kB", "--layer", "*", "--json")
    expected = explain(tiny(), ["*"], budgets={"weight_bytes": "6.5 kB"}).model_dump(mode="json")
    found = json.loads(done.out)
    assert comparable(found.pop("allocation")) == comparable(expected.pop("allocation"))
    assert found == expected


def test_layers_that_do_not_exist_are_refused(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("explain", profile, "--layer", "dwon")
    assert (done.code, done.out) == (2, "")
    assert (
        done.err
        == "error: /layers/0: unknown layer or glob 'dwon'; did you mean 'down'? known: 'up', 'down'\n"
    )
