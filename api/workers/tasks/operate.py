"""Answer by an operation: a body in, a result out, nothing kept."""

from __future__ import annotations

import gzip

from api.operations import OPERATIONS
from api.operations.operation import PlannedAllocation
from api.workers.cache import TaskContext
from api.workers.json_body import parsed
from api.workers.tasks import Answer
from api.workers.tasks.allocate import limited, wanted_profile
from bitalloc.wire import ProfileRequest


def run(context: TaskContext) -> Answer:
    """Parse, compute and write.

    Args:
        context: Its options are ``operation``, a key of :data:`api.operations.OPERATIONS`, and ``max_time_limit_s``.

    Returns:
        No facts; the answer to send.
    """
    operation = OPERATIONS[context.options["operation"]]

    def stored(identifier: str) -> PlannedAllocation:
        return PlannedAllocation.model_validate_json(gzip.decompress(context.fetch_allocation(identifier)))

    asked = operation.with_stored(parsed(operation.request, context.body, context.limits), stored)
    if isinstance(asked, ProfileRequest):
        request = limited(asked, context.options["max_time_limit_s"])
        answer = operation.compute(wanted_profile(context, asked), request, asked)
    else:
        answer = operation.compute(asked)
    return {}, [answer.model_dump_json().encode()]
