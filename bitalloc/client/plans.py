"""Flows about plans that are there already: get, export, lint, compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import httpx2

from allocator import Allocation, Fault, InvalidInputError
from api.operations.comparison import ComparisonAnswer, Side
from api.operations.export import ExportAnswer
from api.operations.lint import LintAnswer
from bitalloc.client.errors import lacks, understood
from bitalloc.client.flows import Flow, Source, called, checked, posted
from bitalloc.wire import StoredAllocation

#: An allocation, a table of layer and format, or the id of an allocation that the service keeps.
Plan: TypeAlias = Allocation | Mapping[str, str] | str


def export(plan: Plan, target: str, fields: Mapping[str, object]) -> Flow[ExportAnswer]:
    """Write a plan in a tool's own format.

    Args:
        plan: The plan.
        target: Whose format.
        fields: ``others``, ``names``, ``strict``.

    Yields:
        Calls.

    Returns:
        The files and what they cannot say.
    """
    response = yield from _about(plan, "/v1/exports", {**fields, "target": target})
    return understood(response, ExportAnswer)


def lint(plan: Plan | None, runtime: str, fields: Mapping[str, object]) -> Flow[LintAnswer]:
    """Say whether a runtime would load a plan.

    Args:
        plan: The plan; None where ``fields`` has files.
        runtime: Who is to load it.
        fields: ``model``, or ``files``, ``format`` and ``names``.

    Yields:
        Calls.

    Returns:
        The findings.
    """
    response = yield from _about(plan, "/v1/lint", {**fields, "runtime": runtime})
    return understood(response, LintAnswer)


def compare(
    profile: Source, first: Side | Plan, second: Side | Plan, fields: Mapping[str, object]
) -> Flow[ComparisonAnswer]:
    """Lay two plans, or the plans that two objectives lead to, side by side.

    Args:
        profile: The profile.
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


def _about(plan: Plan | None, path: str, asked: dict[str, Any]) -> Flow[httpx2.Response]:
    # By id first, as with profiles: the whole plan goes only where the service no longer keeps it.
    identifier = plan.id if isinstance(plan, StoredAllocation) else plan
    response: httpx2.Response
    if isinstance(identifier, str):
        response = yield called(path, asked | {"allocation_id": identifier}, {})
        if isinstance(plan, str) or not lacks(response, "allocation"):
            return response
    if isinstance(plan, Allocation):
        asked = asked | {"plan": plan.model_dump(mode="json")}
    elif isinstance(plan, Mapping):
        asked = asked | {"plan": dict(plan)}
    response = yield called(path, asked, {})
    return response


def _side(side: Side | Plan) -> dict[str, Any]:
    if isinstance(side, Side):
        return side.model_dump(mode="json", exclude_unset=True)
    if isinstance(side, str):
        return {"allocation_id": side}
    if isinstance(side, Allocation):
        if side.assignment is None:  # a side without an assignment would be planned for
            raise InvalidInputError(
                Fault("", f"there is nothing to compare: the allocation is {side.status}")
            )
        return {"assignment": side.assignment, "fusions": side.fusions}
    return {"assignment": dict(side)}
