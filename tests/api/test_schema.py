"""Requests made from the OpenAPI document, good ones and bad ones: no failure, and no answer beside the document.

A profile that is made at random is refused, for its tables have no common shape. So there are two rounds: bodies as
they come, and bodies that were mended until they reach the solvers. What a schema allows and the contract refuses is
answered with 422, which ``positive_data_acceptance`` would take for a fault.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy, one_of
from schemathesis import BaseSchema, Case, GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from allocator import SOLVERS
from api.openapi.examples import TINY_PROFILE
from quantize.exports import EXPORTS
from quantize.lint import RUNTIMES
from tests.conftest import ROOT

QUICK = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
OPERATIONS = [f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods]
WITH_BODIES = [
    f"{method.upper()} {path}"
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if "requestBody" in operation
]
NAMES: Mapping[str, list[str]] = {
    "objective": ["kl"],
    "budgets": ["weight_bytes", "effective_bits", "kl"],
    "pin": ["up", "down", "*"],
    "allow": ["up", "down", "*"],
    "forbid": ["up", "down"],
    "assignment": ["up", "down"],
    "resource": ["weight_bytes", "effective_bits"],
    "table": ["weight_bytes", "kl"],
    "layers": ["up", "down", "*"],
    "formats": ["int4-g64", "int8-g64", "int*"],
    "plan": ["up", "down", "model.layers.0.self_attn.q_proj"],
    "solver": ["auto", *SOLVERS],
    "baselines": ["uniform", "greedy"],
    "target": list(EXPORTS),
    "format": list(EXPORTS),
    "runtime": list(RUNTIMES),
}
FORMATS = ["int4-g64", "int8-g64", "fp16", "uint4-g128"]


@pytest.fixture(scope="session")
def document(service: str) -> BaseSchema:
    """The document as the service gives it."""
    return schemathesis.openapi.from_url(f"{service}/openapi.json")


@pytest.fixture(scope="session")
def stored(service: str) -> str:
    """The id of a plan that the service keeps."""
    return str(httpx2.post(f"{service}/v1/allocations", json={"profile": TINY_PROFILE}).json()["id"])


def known(names: list[str], text: str) -> str:
    return text if text in names else names[sum(map(ord, text)) % len(names)]


def mended(value: Any, names: list[str]) -> Any:
    """A value with names that exist in place of names that were made up."""
    if isinstance(value, str):
        return known(names, value)
    if isinstance(value, list):
        return [mended(item, names) for item in value]
    if isinstance(value, dict):
        return {known(names, key): mended_format(item) for key, item in value.items()}
    return value


def mended_format(value: Any) -> Any:
    if isinstance(value, list):
        return [mended_format(item) for item in value]
    return known(FORMATS, value) if isinstance(value, str) else value


def mended_body(body: Any, stored: str) -> Any:
    """A body about a profile that keeps the contract, most of its names among those that exist."""
    if not isinstance(body, dict):
        return body
    mended_fields = {
        key: mended(value, NAMES[key]) if key in NAMES else mended_body(value, stored)
        for key, value in body.items()
    }
    if body.get("allocation_id"):  # goes alone
        others = {"plan", "files", "format", "names", "assignment", "fusions", "objective"}
        mended_fields = {key: value for key, value in mended_fields.items() if key not in others}
        mended_fields["allocation_id"] = stored
    if "profile" in body or "profile_id" in body:
        mended_fields |= {"profile": TINY_PROFILE, "profile_id": None, "time_limit_s": 1.0}
    return mended_fields


def test_mending_leaves_a_good_body_as_it_is() -> None:
    body = {"profile": TINY_PROFILE, "profile_id": None, "time_limit_s": 1.0, "budgets": {"kl": 0.02}}
    assert mended_body(body, "") == body
    made_up = mended_body({"profile_id": "x", "pin": {"a": "b"}, "first": {"objective": "c"}}, "")
    assert made_up["pin"].keys() <= {"up", "down", "*"}
    assert made_up["first"] == {"objective": "kl"}
    named = {"first": {"allocation_id": "x", "objective": "kl"}, "second": {"allocation_id": None}}
    assert mended_body(named, "id") == {"first": {"allocation_id": "id"}, "second": {"allocation_id": None}}


def requests_of(label: str, document: BaseSchema, modes: Sequence[GenerationMode]) -> SearchStrategy[Case]:
    operation = document.find_operation_by_label(label)
    assert operation is not None, label
    return one_of([operation.as_strategy(mode) for mode in modes])


def as_they_come(label: str, document: BaseSchema, examples: int) -> None:
    """Good and bad requests: the bad ones are refused, and every answer is in the document."""

    @settings(QUICK, max_examples=examples)
    @given(requests_of(label, document, list(GenerationMode)))
    def run(case: Case) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    run()


def reaching_the_solvers(label: str, document: BaseSchema, stored: str, examples: int) -> None:
    """Good requests about a profile that keeps the contract."""

    @settings(QUICK, max_examples=examples)
    @given(requests_of(label, document, [GenerationMode.POSITIVE]))
    def run(case: Case) -> None:
        case.body = mended_body(case.body, stored)
        case.call_and_validate(excluded_checks=[positive_data_acceptance, negative_data_rejection])

    run()


@pytest.mark.parametrize("label", OPERATIONS)
def test_a_few_requests_as_they_come(label: str, document: BaseSchema) -> None:
    as_they_come(label, document, 5)


@pytest.mark.parametrize("label", WITH_BODIES)
def test_a_few_requests_that_reach_the_solvers(label: str, document: BaseSchema, stored: str) -> None:
    reaching_the_solvers(label, document, stored, 5)


@pytest.mark.long
@pytest.mark.parametrize("label", OPERATIONS)
def test_hundreds_of_requests_as_they_come(label: str, document: BaseSchema) -> None:
    as_they_come(label, document, 100)


@pytest.mark.long
@pytest.mark.parametrize("label", WITH_BODIES)
def test_hundreds_of_requests_that_reach_the_solvers(label: str, document: BaseSchema, stored: str) -> None:
    reaching_the_solvers(label, document, stored, 100)
