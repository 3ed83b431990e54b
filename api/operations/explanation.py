"""Why a plan is as it is."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from allocator import Explanation, Fault, InvalidInputError, Profile, Request, explain_request
from allocator.contract.errors import pointer
from allocator.contract.patterns import matching
from allocator.contract.schema import Name
from api.operations.body import pointing_into_body
from api.operations.example_profile import TINY_PROFILE, UNSURE_PROFILE
from api.operations.operation import Operation, sharing
from bitalloc.wire import ProfileRequest

#: The plan, the simple rules, the reasons or the conflict, the resamples: each within the request's limit.
_PARTS = 4


class ExplanationRequest(ProfileRequest):
    """A profile, what is asked of it, and what is explained besides the plan itself.

    The time limit holds for the whole answer, a quarter of it for the plan.

    Attributes:
        layers: Names or globs of the layers whose formats to explain.
        resamples: How often to solve again over resampled tables, to see how sure the plan is; 0 leaves that out.
        seed: Seed of the resamples.
    """

    layers: Annotated[tuple[Name, ...], Field(max_length=256)] = ()
    resamples: Annotated[int, Field(strict=True, ge=0, le=2000)] = 0
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0


def explanation(profile: Profile, request: Request, asked: ExplanationRequest) -> Explanation:
    """Solve a request and give the reasons.

    Args:
        asked: Layers, resamples, seed.

    Returns:
        The plan with its reasons.

    Raises:
        InvalidInputError: A pattern matches no layer, or the request does not fit the profile.
    """
    # Checked here: the library says `/layers/0` of the patterns and of the profile alike.
    names, faults = [layer.name for layer in profile.layers], []
    for at, pattern in enumerate(asked.layers):
        try:
            matching(pattern, names)
        except ValueError as error:
            faults.append(Fault(pointer(("layers", at)), str(error)))
    if faults:
        raise InvalidInputError(*faults)
    with pointing_into_body():
        return explain_request(profile, sharing(request, _PARTS), asked.layers, asked.resamples, asked.seed)


_EXAMPLES: dict[str, Any] = {
    "a layer": {
        "summary": "Why `down` got its format",
        "value": {"profile": TINY_PROFILE, "budgets": {"effective_bits": 6.5}, "layers": ["down"]},
    },
    "how sure": {
        "summary": "Solved again over fifty resampled tables",
        "value": {
            "profile": UNSURE_PROFILE,
            "objective": "kl",
            "budgets": {"weight_bytes": "7 KiB"},
            "resamples": 50,
        },
    },
    "a conflict": {
        "summary": "A size that no plan has, and what would be enough",
        "value": {"profile": TINY_PROFILE, "budgets": {"weight_bytes": 4000}},
    },
}

OPERATION = Operation(
    path="/explanations",
    tag="planning",
    summary="Say why a plan is as it is",
    description=(
        "Solve, and give the next changes, baselines, what each format of a layer would have cost, "
        "and how sure it is.\n"
        "\n"
        "For requests that no plan can meet, `conflict` says what cannot all be kept and how little would be enough."
    ),
    request=ExplanationRequest,
    answer=Explanation,
    compute=explanation,
    examples=_EXAMPLES,
)
