"""Exports and lint over HTTP: what the registries say, and faults that point into the body."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import httpx2
import pytest

from allocator import solve
from quantize.exports import EXPORTS, export
from quantize.lint import RUNTIMES, Model, lint_files, lint_plan
from tests.api.helpers import problem_of, tiny

PLAN = {
    "model.layers.0.self_attn.q_proj": "int4-g128",
    "model.layers.0.self_attn.k_proj": "int8-g128",
    "model.layers.0.mlp.up_proj": "fp16",
}
SHAPES: dict[str, Any] = {name: [512, 256] for name in PLAN}


def listed(findings: Any) -> list[dict[str, Any]]:
    return [asdict(finding) | {"layers": list(finding.layers)} for finding in findings]


@pytest.mark.parametrize("target", EXPORTS)
def test_every_export_is_the_librarys(http: httpx2.Client, target: str) -> None:
    body = {"plan": PLAN, "target": target, "others": ["lm_head"], "force": True}
    response = http.post("/v1/exports", json=body)
    assert response.status_code == 200, response.text
    expected = export(PLAN, target, others=["lm_head"])
    found = response.json()
    assert found["files"] == dict(expected.files)
    assert found["losses"] == list(map(asdict, expected.losses))
    assert found["advice"] == expected.advice


def test_an_export_knows_shapes_and_says_who_would_not_load_it(http: httpx2.Client) -> None:
    plan = {layer: "int4-g64" for layer in PLAN}
    shapes: dict[str, Any] = {layer: [64, 96] for layer in PLAN} | {"lm_head": [512, 64]}
    body: dict[str, Any] = {"plan": plan, "target": "compressed-tensors", "model": {"shapes": shapes}}
    found = http.post("/v1/exports", json=body).json()
    assert {loss["instead"] for loss in found["losses"]} == {"int4-g32"}
    assert "lm_head" in found["files"]["quantization_config.json"]
    assert list(found["findings"]) == ["vllm", "sglang", "transformers"]
    assert {finding["rule"] for finding in found["findings"]["vllm"]} == {"kernel-shapes"}
    assert found["findings"]["transformers"] == []


def test_an_allocation_is_exported_as_the_service_gave_it(http: httpx2.Client) -> None:
    plan = solve(tiny(), budgets={"effective_bits": 6.5})
    given = http.post("/v1/allocations", json={"profile": tiny(), "budgets": {"effective_bits": 6.5}}).json()
    body = {"plan": given, "target": "torchao"}
    found = http.post("/v1/exports", json=body).json()
    assert found["files"] == dict(export(plan, "torchao").files)


def test_the_targets_are_those_of_the_registry(http: httpx2.Client) -> None:
    found = http.get("/v1/exports").json()["targets"]
    assert [target["name"] for target in found] == list(EXPORTS)
    assert all(target["formats"] == EXPORTS[target["name"]].mask.describe() for target in found)


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"target": "tensorrt"}, "/target", "unknown target 'tensorrt'"),
        ({"plan": PLAN | {"lm_head": "q9"}}, "/plan/lm_head", "q9"),
        ({"plan": {}}, "/plan", "at least 1 item"),
        ({"plan": None}, "", "give a plan or an allocation_id"),
        ({"allocation_id": "0" * 32}, "", "give a plan or an allocation_id"),
        (
            {"target": "gptqmodel"},
            "/plan/model.layers.0.self_attn.q_proj",
            "vllm would not load it (nor does sglang): model.layers.0.self_attn.qkv_proj is loaded as one layer",
        ),
        (
            {"runtime": "vllm"},
            "/plan/model.layers.0.self_attn.q_proj",
            "its shards have int4-g128, int8-g128",
        ),
        ({"runtime": "llama.cpp"}, "/runtime", "'llama.cpp' does not read torchao, which vllm, torchao read"),
        (
            {"target": "mlx", "model": {"shapes": {"lm_head": None}}},
            "/plan/model.layers.0.self_attn.q_proj",
            "unknown layer 'model.layers.0.self_attn.q_proj'; known: 'lm_head'",
        ),
        ({"target": "mlx", "strict": True}, "/plan/model.layers.0.self_attn.q_proj", "becomes uint4-g128"),
    ],
)
def test_faults_of_an_export_point_into_the_body(
    http: httpx2.Client, changes: dict[str, Any], pointer: str, words: str
) -> None:
    body = problem_of(http.post("/v1/exports", json={"plan": PLAN, "target": "torchao"} | changes), 422)
    assert body["errors"][0]["pointer"] == pointer
    assert words in body["errors"][0]["detail"]


def test_an_allocation_without_a_plan_cannot_be_exported(http: httpx2.Client) -> None:
    plan = solve(tiny(), budgets={"weight_bytes": 1}).model_dump(mode="json")
    body = problem_of(http.post("/v1/exports", json={"plan": plan, "target": "torchao"}), 422)
    assert body["errors"] == [
        {"pointer": "/plan/assignment", "detail": "there is nothing to export: the allocation is infeasible"}
    ]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_lint_of_a_plan_is_the_librarys(http: httpx2.Client, runtime: str) -> None:
    found = http.post("/v1/lint", json={"plan": PLAN, "runtime": runtime, "model": {"shapes": SHAPES}}).json()
    expected = lint_plan(PLAN, runtime, Model({name: tuple(shape) for name, shape in SHAPES.items()}))
    assert found["findings"] == listed(expected)
    assert found["loads"] == (not any(finding.severity == "error" for finding in expected))


def test_a_configuration_of_another_tool_is_linted(http: httpx2.Client) -> None:
    files = dict(export(PLAN, "gptqmodel").files)
    body = {"files": files, "format": "gptqmodel", "runtime": "vllm", "model": {"shapes": SHAPES}}
    found = http.post("/v1/lint", json=body).json()
    model = Model({name: tuple(shape) for name, shape in SHAPES.items()})
    assert found["findings"] == listed(lint_files("gptqmodel", files, "vllm", model))
    assert found["loads"] is False


def test_the_runtimes_are_those_of_the_registry(http: httpx2.Client) -> None:
    found = http.get("/v1/lint").json()["runtimes"]
    assert [runtime["name"] for runtime in found] == list(RUNTIMES)


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({"plan": PLAN, "runtime": "tensorrt"}, "/runtime", "unknown runtime 'tensorrt'"),
        ({"plan": {"x": "q9"}, "runtime": "vllm"}, "/plan/x", "q9"),
        ({"runtime": "vllm"}, "", "give a plan or files"),
        ({"plan": PLAN, "allocation_id": "0" * 32, "runtime": "vllm"}, "", "give a plan or files"),
        ({"allocation_id": "0", "runtime": "vllm"}, "/allocation_id", "should match pattern"),
        ({"plan": PLAN, "files": {"a.json": "{}"}, "runtime": "vllm"}, "", "give a plan or files"),
        ({"files": {"a.json": "{}"}, "runtime": "vllm"}, "/format", "say whose configuration"),
        ({"plan": PLAN, "format": "mlx", "runtime": "vllm"}, "", "a plan has no format"),
        (
            {"files": {"a.json": "{}"}, "format": "mlxx", "runtime": "vllm"},
            "/format",
            "unknown target 'mlxx'",
        ),
        ({"files": {"a.json": "{"}, "format": "mlx", "runtime": "vllm"}, "/files/a.json", "expected JSON"),
        ({"files": {"a.txt": "{"}, "format": "mlx", "runtime": "vllm"}, "/files", "expected a .json file"),
        (
            {"plan": PLAN, "runtime": "vllm", "model": {"shapes": {"a": [-1]}}},
            "/model/shapes/a/0",
            "or equal to 0",
        ),
    ],
)
def test_faults_of_a_lint_point_into_the_body(
    http: httpx2.Client, body: dict[str, Any], pointer: str, words: str
) -> None:
    found = problem_of(http.post("/v1/lint", json=body), 422)
    assert found["errors"][0]["pointer"] == pointer
    assert words in found["errors"][0]["detail"]
