"""Why a plan is as it is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from allocator import Explanation, Fault, InvalidInputError, Profile, Request, explain_request
from allocator.contract.errors import pointer
from allocator.contract.patterns import matching
from allocator.contract.schema import Name
from api.operations.body import pointing_into_body
from api.operations.time_limit import sharing
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
        profile: The profile.
        request: The request.
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
