"""Flows about plans that are there already: get, export, lint, compare."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import httpx2

from allocator import Allocation, Fault, InvalidInputError
from allocator.contract.allocation import PlanSource, load_plan
from allocator.contract.profile import ProfileSource
from allocator.contract.request import RequestFields
from bitalloc.client.errors import lacks, understood
from bitalloc.client.flows import Flow, called, checked, posted
from bitalloc.operations import ComparisonAnswer, ExportAnswer, LintAnswer, Side
from bitalloc.wire import StoredAllocation

#: The id of an allocation that the service keeps.
_ID = re.compile("[0-9a-f]{32}")


class ExportFields(TypedDict, total=False):
    """What an export may say beside plan and target, see :func:`quantize.exports.export`."""

    others: Sequence[str]
    names: Mapping[str, str]
    strict: bool
    model: Mapping[str, object]
    runtime: str
    force: bool


class LintFields(TypedDict, total=False):
    """What a lint may say beside plan and runtime: the shapes and ties of the model, or files of a configuration."""

    model: Mapping[str, object]
    files: Mapping[str, str]
    format: str
    names: Mapping[str, str]


def export(plan: PlanSource, target: str, fields: ExportFields) -> Flow[ExportAnswer]:
    """Write a plan in a tool's own format.

    Args:
        fields: ``others``, ``names``, ``strict``, ``model``, ``runtime``, ``force``.

    Yields:
        Calls.

    Returns:
        The files and what they cannot say.
    """
    response = yield from _about(plan, "/v1/exports", {**fields, "target": target})
    return understood(response, ExportAnswer)


def lint(plan: PlanSource | None, runtime: str, fields: LintFields) -> Flow[LintAnswer]:
    """Say whether a runtime would load a plan.

    Args:
        plan: The plan; None where ``fields`` has files.
        fields: ``model``, or ``files``, ``format`` and ``names``.

    Yields:
        Calls.

    Returns:
        The findings.
    """
    response = yield from _about(plan, "/v1/lint", {**fields, "runtime": runtime})
    return understood(response, LintAnswer)


def compare(
    profile: ProfileSource, first: Side | PlanSource, second: Side | PlanSource, fields: RequestFields
) -> Flow[ComparisonAnswer]:
    """Lay two plans, or the plans that two objectives lead to, side by side.

    Args:
        first: A plan, or what to plan for.
        second: The other one.
        fields: What is asked of the sides that are planned.

    Yields:
        Calls.

    Returns:
        The comparison.
    """
    asked = checked(fields) | {"first": _side(first), "second": _side(second)}
    response = yield from posted(profile, asked, {}, "/v1/comparisons")
    return understood(response, ComparisonAnswer)


def _about(plan: PlanSource | None, path: str, asked: dict[str, Any]) -> Flow[httpx2.Response]:
    # By id first, as with profiles: the whole plan goes only where the service no longer keeps it.
    identifier = _identifier(plan)
    response: httpx2.Response
    if identifier is not None:
        response = yield called(path, asked | {"allocation_id": identifier}, {})
        if not isinstance(plan, Allocation) or not lacks(response, "allocation"):
            return response
    if plan is not None:
        loaded = load_plan(plan)
        asked = asked | {"plan": loaded.model_dump(mode="json") if isinstance(loaded, Allocation) else loaded}
    response = yield called(path, asked, {})
    return response


def _identifier(plan: PlanSource | None) -> str | None:
    if isinstance(plan, StoredAllocation):
        return plan.id
    return plan if isinstance(plan, str) and _ID.fullmatch(plan) else None


def _side(side: Side | PlanSource) -> dict[str, Any]:
    if isinstance(side, Side):
        return side.model_dump(mode="json", exclude_unset=True)
    if not isinstance(side, Allocation) and (identifier := _identifier(side)) is not None:
        return {"allocation_id": identifier}
    loaded = load_plan(side)
    if not isinstance(loaded, Allocation):
        return {"assignment": loaded}
    if loaded.assignment is None:  # a side without an assignment would be planned for
        detail = f"there is nothing to compare: the allocation is {loaded.status}"
        raise InvalidInputError(Fault("", detail))
    return {"assignment": loaded.assignment, "fusions": loaded.fusions}
