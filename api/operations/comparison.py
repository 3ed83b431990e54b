"""Two plans, or the plans that two cost tables lead to, side by side."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticCustomError

from allocator import Fault, InvalidInputError, Profile, Request, solve_request
from allocator.analysis.difference import differing, require_plan
from allocator.analysis.rank_agreement import Agreement, agreement
from allocator.answer.certificate import totals
from allocator.contract.versions import installed_version
from api.operations.body import pointing_into_body
from api.operations.example_profile import TINY_PROFILE, UNSURE_PROFILE
from api.operations.operation import Operation, Stored, sharing
from bitalloc.operations import Compared, ComparisonAnswer, Side
from bitalloc.wire import ProfileRequest


class ComparisonRequest(ProfileRequest):
    """A profile, what is asked of it, and two sides to compare.

    Attributes:
        first: One side.
        second: The other side.
    """

    first: Side
    second: Side


def comparison(profile: Profile, request: Request, asked: ComparisonRequest) -> ComparisonAnswer:
    """Lay two sides next to each other.

    Args:
        request: Budgets, limits and pins for the sides that are solved for.
        asked: The sides; those that named a stored allocation with its assignment.

    Returns:
        The comparison.
    """
    each = sharing(request, 2)
    first = _side(profile, each, asked.first, "first")
    second = _side(profile, each, asked.second, "second")
    both = first.assignment is not None and second.assignment is not None
    layers = differing(profile, first.assignment or {}, second.assignment or {}) if both else ()
    return ComparisonAnswer(
        first=first,
        second=second,
        layers=layers,
        alike=len(profile.layers) - len(layers) if both else None,
        agreement=_agreement(profile, first, second),
        profile_sha256=profile.digest(),
        version=installed_version("bitalloc"),
    )


def _side(profile: Profile, request: Request, side: Side, name: str) -> Compared:
    stored = side.allocation_id is not None
    if stored and side.assignment is None:
        detail = (
            "this allocation has no plan to compare: nothing kept its budgets, or nothing was found in time"
        )
        raise InvalidInputError(Fault(f"/{name}/allocation_id", detail))
    if side.assignment is not None:
        places = (
            {"assignment": f"/{name}/allocation_id", "fusions": f"/{name}/allocation_id"} if stored else {}
        )
        with pointing_into_body(places, otherwise=f"/{name}"):
            require_plan(profile, side.assignment, side.fusions)
        return Compared(assignment=side.assignment, totals=totals(profile, side.assignment, side.fusions))
    own = side.objective is not None
    asked = request.model_copy(update={"objective": side.objective}) if own else request
    with pointing_into_body({"objective": f"/{name}/objective"} if own else {}):
        plan = solve_request(profile, asked)
    sums = {} if plan.assignment is None else totals(profile, plan.assignment, plan.fusions)
    return Compared(assignment=plan.assignment, totals=sums, allocation=plan)


def _agreement(profile: Profile, first: Compared, second: Compared) -> Agreement | None:
    names = [side.allocation.objective_name for side in (first, second) if side.allocation is not None]
    if len(names) < 2 or names[0] == names[1] or not all(name in profile.costs for name in names):
        return None
    return agreement(names[1], profile.costs[names[1]], profile.costs[names[0]])


def _inconsistent(message: str) -> PydanticCustomError:
    return PydanticCustomError("inconsistent", "{message}", {"message": message})


def _with_stored(asked: ComparisonRequest, stored: Stored) -> ComparisonRequest:
    return asked.model_copy(
        update={"first": _stored_side(asked.first, stored), "second": _stored_side(asked.second, stored)}
    )


def _stored_side(side: Side, stored: Stored) -> Side:
    if side.allocation_id is None:
        return side
    plan = stored(side.allocation_id)
    return side.model_copy(update={"assignment": plan.assignment, "fusions": plan.fusions})


_EXAMPLES: dict[str, Any] = {
    "two tables": {
        "summary": "The plans that two cost tables lead to at one size",
        "value": {
            "profile": UNSURE_PROFILE,
            "budgets": {"effective_bits": 6.5},
            "first": {"objective": "kl"},
            "second": {"objective": "fisher"},
        },
    },
    "two plans": {
        "summary": "A plan of one's own against the best one",
        "value": {
            "profile": TINY_PROFILE,
            "budgets": {"effective_bits": 6.5},
            "first": {"assignment": {"up": "int4-g64", "down": "int8-g64"}},
            "second": {},
        },
    },
}

OPERATION = Operation(
    path="/comparisons",
    tag="planning",
    summary="Lay two plans or two tables side by side",
    description=(
        "Compare two assignments, or the plans that two objectives lead to under the same budgets.\n"
        "\n"
        "Each side's sums over every table of the profile, the layers that differ, "
        "and how far two cost tables rank alike."
    ),
    request=ComparisonRequest,
    answer=ComparisonAnswer,
    compute=comparison,
    examples=_EXAMPLES,
    with_stored=_with_stored,
)
