"""An operation is one file and one line; everything else follows from it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from api.operations import OPERATIONS
from api.operations.export import ExportRequest
from api.operations.operation import PlannedAllocation, with_stored_plan
from tests.api.helpers import problem_of, tiny
from tests.conftest import ROOT


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_example_of_an_operation_is_answered_by_its_model(http: httpx2.Client, name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.examples
    for example in operation.examples.values():
        answer = http.post(f"/v1{operation.path}", json=example["value"])
        assert answer.status_code == 200, answer.text
        operation.answer.model_validate_json(answer.content)


@pytest.mark.parametrize("name", [name for name, operation in OPERATIONS.items() if operation.listing])
def test_a_listing_is_answered_by_its_model(http: httpx2.Client, name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.listing is not None
    answer = http.get(f"/v1{operation.path}")
    assert operation.listing.answer.model_validate_json(answer.content) == operation.listing.compute()


def test_a_plan_stands_in_for_its_id(http: httpx2.Client) -> None:
    plan = http.post("/v1/allocations", json={"profile": tiny()})
    kept = PlannedAllocation.model_validate_json(plan.content)
    assert kept.id is not None
    asked = with_stored_plan(ExportRequest(allocation_id=kept.id, target="mlx"), lambda _: kept)
    assert asked.plan == kept
    assert asked.allocation_id == kept.id
    without = ExportRequest(plan={"up": "int4"}, target="mlx")
    assert with_stored_plan(without, lambda _: kept) is without


HOSTILE = {
    "an expression that backtracks": {
        "runtime": "vllm",
        "format": "compressed-tensors",
        "files": {
            "config.json": '{"quantization_config": {"config_groups": {"g": {"targets": ["re:(a+)+$"], '
            '"weights": {"num_bits": 4}}}}}'
        },
        "model": {"shapes": {"a" * 60 + "!": None}},
    },
    "nested YAML": {
        "runtime": "vllm",
        "format": "llm-compressor",
        "files": {"recipe.yaml": "[" * 5000 + "]" * 5000},
    },
    "a YAML value that its tag does not take": {
        "runtime": "vllm",
        "format": "llm-compressor",
        "files": {"recipe.yaml": "a: !!bool perhaps"},
    },
    "nested JSON": {
        "runtime": "vllm",
        "format": "compressed-tensors",
        "files": {"config.json": '{"a":' * 100_000},
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_that_break_their_reader_are_refused(http: httpx2.Client, name: str) -> None:
    body = problem_of(http.post("/v1/lint", json=HOSTILE[name]), 422)
    assert body["errors"][0]["pointer"].startswith("/files")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_app_openapi_and_routes_import_each_other_one_way() -> None:
    order = ("documents", "app", "routes", "openapi", "operations")
    for at, lower in enumerate(order):
        folder = ROOT / "api" / lower
        files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
        assert files
        for path in files:
            for upper in order[:at]:
                wrong = [name for name in imports(path) if (name + ".").startswith(f"api.{upper}.")]
                assert not wrong, (path.name, wrong)
