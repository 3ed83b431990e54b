"""`bitalloc refine` and `bitalloc verify`, on a small real encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from allocator import Allocation, load_profile, solve
from tests.api.conftest import Run


@pytest.fixture
def profile(bitalloc: Run, tiny_encoder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    options = ["--count", "4", "--tables", "embedding_distance", "--formats", "int2-g64,int4-g64,int8-g64"]
    assert bitalloc("profile", "--model", tiny_encoder, "--out", path, *options).code == 0
    return path


def test_a_refined_plan_is_measured_and_passes_the_gate(
    bitalloc: Run, tiny_encoder: Path, tmp_path: Path, profile: Path
) -> None:
    plan, report = tmp_path / "plan.json", tmp_path / "report.md"
    measuring = ["--model", tiny_encoder, "--count", "4"]
    budget = ["-o", "embedding_distance", "-b", "effective_bits=3.5"]
    options = ["--max-evaluations", "8", "--journal", tmp_path / "journal", "--out", plan]
    done = bitalloc("refine", profile, *budget, *measuring, *options, "--json")
    assert (done.code, done.err) == (0, "")
    result = json.loads(done.out)
    assert result["losses"]["refined"] <= min(
        result["losses"][name] for name in ("start", "uniform", "greedy")
    )
    allocation = Allocation.model_validate_json(plan.read_bytes())
    assert allocation.solver.name == "refine"
    kept = plan.read_bytes()
    again = bitalloc("refine", profile, *budget, *measuring, *options, "--json")
    assert again.code == 2
    assert "exists; choose another name" in again.err
    assert bitalloc("refine", profile, *budget, *measuring, *options, "--json", "--force").out == done.out
    assert plan.read_bytes() == kept

    gate = ["--profile", profile, "-o", "embedding_distance", *measuring]
    passed = bitalloc("verify", plan, *gate, "--out", report)
    assert (passed.code, passed.err) == (0, "")
    assert passed.out == report.read_text() != ""
    rows = json.loads(report.with_suffix(".json").read_text())["rows"]
    assert rows[0]["loss"] == pytest.approx(result["losses"]["refined"], rel=1e-9)

    # The worst plan that spends half of what the layers beside the embedding can take.
    document = json.loads(profile.read_text())
    costs, stored = document["costs"]["embedding_distance"], document["resources"]["weight_bytes"]
    spent = stored["values"]
    costs["values"] = [[-value for value in row] for row in costs["values"]]
    costs["stderr"] = None
    least = stored["constant"] + sum(row[0] for row in spent)
    most = least + sum(row[2] - row[0] for row in spent[1:])
    rule = {"limits": [{"table": "weight_bytes", "min": (least + most) / 2, "max": most}]}
    bad = solve(document, objective="embedding_distance", pin={"*.word_embeddings": "int2-g64"}, **rule)
    plan.write_text(bad.model_dump_json())
    assert bitalloc("verify", plan, *gate, "--out", report).code == 2
    assert "the name of the JSON" in bitalloc("verify", plan, *gate, "--out", tmp_path / "r.json").err
    failed = bitalloc("verify", plan, *gate)
    assert failed.code == 1
    assert "**Failed.**" in failed.out


def test_a_budget_that_no_plan_keeps(bitalloc: Run, tiny_encoder: Path, profile: Path) -> None:
    done = bitalloc(
        "refine",
        profile,
        "-o",
        "embedding_distance",
        "-b",
        "effective_bits=1",
        "--model",
        tiny_encoder,
        "--count",
        "4",
    )
    assert done.code == 2
    assert "/budgets: no plan keeps every budget; effective_bits: asked for at most 1" in done.err


def test_a_latency_holds_by_the_clock(bitalloc: Run, tiny_encoder: Path, tmp_path: Path) -> None:
    profile, plan = tmp_path / "timed.json", tmp_path / "plan.json"
    formats = ["--formats", "int2-g64,int4-g64,int8-g64", "--resources", "weight_bytes, latency_us"]
    made = bitalloc(
        "profile",
        "--model",
        tiny_encoder,
        "--out",
        profile,
        "--count",
        "4",
        "--tables",
        "embedding_distance",
        *formats,
    )
    assert made.code == 0, made.err
    assert list(load_profile(profile).resources) == ["weight_bytes", "latency_us"]

    timed = ["--model", tiny_encoder, "--count", "4", "--runtime", "onnxruntime", "--out", plan]
    budget = ["-o", "embedding_distance", "--max-evaluations", "2", "-b"]
    done = bitalloc("refine", profile, *budget, "latency_us=60000000", *timed, "--json")
    assert (done.code, done.err) == (0, "")
    assert 0 < json.loads(done.out)["latency_us"] < 60e6
    # The table may say what it wants: the clock says that nothing is that fast.
    never = bitalloc("refine", profile, *budget, "latency_us=0.001", *timed, "--force")
    assert never.code == 2
    assert "latency_us: asked for at most 0.001, the least that a plan measured is" in never.err
    assert Allocation.model_validate_json(plan.read_bytes()).assignment is not None

    shown = bitalloc("refine", profile, *budget, "latency_us=60000000", *timed, "--force")
    assert "latency: " in shown.out


def test_runtimes_that_time_nothing(
    bitalloc: Run, tiny_language_model: Path, corpus: Path, profile: Path
) -> None:
    budget = ["-o", "embedding_distance", "-b", "effective_bits=4"]
    done = bitalloc("refine", profile, *budget, "--runtime", "tflite")
    assert done.code == 2
    assert "--runtime: unknown runtime 'tflite'; known: 'onnxruntime'" in done.err
    text = ["--model", tiny_language_model, "--text", corpus, "--runtime", "onnxruntime"]
    done = bitalloc("refine", profile, *budget, *text)
    assert done.code == 2
    assert "--runtime: times sentence encoders only" in done.err
