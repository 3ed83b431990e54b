"""Answer by an operation: a body in, a result out, nothing kept."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from api.operations.comparison import ComparisonRequest, comparison
from api.operations.explanation import ExplanationRequest, explanation
from api.operations.export import ExportRequest, PlannedAllocation, exported
from api.operations.frontier import FrontierRequest, trade_off
from api.operations.lint import LintRequest, linted
from api.operations.stored import with_stored
from api.workers.cache import Work
from api.workers.parsing import parsed
from api.workers.tasks import Answer
from api.workers.tasks.allocate import limited, wanted_profile
from bitalloc.wire import ProfileRequest

#: Functions of a profile, the request within the time limit, and everything that was asked.
ABOUT_PROFILES: Mapping[str, tuple[type[ProfileRequest], Callable[..., BaseModel]]] = {
    "frontier": (FrontierRequest, trade_off),
    "explanation": (ExplanationRequest, explanation),
    "comparison": (ComparisonRequest, comparison),
}
#: Functions of what was asked alone.
ABOUT_PLANS: Mapping[str, tuple[type[BaseModel], Callable[..., BaseModel]]] = {
    "export": (ExportRequest, exported),
    "lint": (LintRequest, linted),
}


def run(work: Work) -> Answer:
    """Parse, compute and write.

    Args:
        work: Its options are ``operation``, a key of one of the tables above, and ``max_time_limit_s``.

    Returns:
        No facts; the answer to send.
    """
    name = work.options["operation"]

    def stored(identifier: str) -> PlannedAllocation:
        return PlannedAllocation.model_validate_json(gzip.decompress(work.fetch_allocation(identifier)))

    if name in ABOUT_PLANS:
        model, operation = ABOUT_PLANS[name]
        answer = operation(with_stored(parsed(model, work.body, work.limits), stored))
    else:
        about, operation = ABOUT_PROFILES[name]
        asked: Any = with_stored(parsed(about, work.body, work.limits), stored)
        request = limited(asked, work.options["max_time_limit_s"])
        answer = operation(wanted_profile(work, asked), request, asked)
    return {}, [answer.model_dump_json().encode()]
