"""An operation is one file and one line; everything else follows from it."""

from __future__ import annotations

import httpx2
import pytest

from api.operations import OPERATIONS
from api.operations.export import ExportRequest
from api.operations.operation import PlannedAllocation, with_stored_plan
from tests.api.helpers import problem_of, tiny


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
@pytest.mark.thorough
def test_files_that_break_their_reader_are_refused(http: httpx2.Client, name: str) -> None:
    body = problem_of(http.post("/v1/lint", json=HOSTILE[name]), 422)
    assert body["errors"][0]["pointer"].startswith("/files")
