"""Bodies of requests into models, with the faults pointing into the body."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from allocator import Fault, InvalidInputError
from allocator.contract.errors import faults_of
from api.workers.json_body import decoded, require_shallow
from api.workers.json_limits import JsonLimits

_NO_OBJECT = Fault("", "expected a JSON object with the fields of the request")
_TOO_MUCH = Fault("", "this body takes more memory than a worker may use; send a smaller one")
M = TypeVar("M", bound=BaseModel)
#: Faults that are told at most, and one more that says that there are others.
_MOST_FAULTS = 101


def parsed(model: type[M], body: bytes, limits: JsonLimits) -> M:
    """Parse and validate a body.

    Args:
        model: What it has to be.
        body: JSON.
        limits: What it may hold.

    Returns:
        The model.

    Raises:
        InvalidJsonError: It is not JSON, or nested too deep.
        InvalidInputError: It is not such a model, or too large; names the offending fields.
    """
    if not body.strip():
        raise InvalidInputError(_NO_OBJECT)
    try:
        document = decoded(body, limits)
        return model.model_validate(document)
    except MemoryError as error:
        raise InvalidInputError(_TOO_MUCH) from error
    except ValidationError as error:
        require_shallow(document, limits)
        entries = error.errors(include_url=False)
        if not entries[0]["loc"] and entries[0]["type"] == "model_type":
            raise InvalidInputError(_NO_OBJECT) from error
        raise InvalidInputError(*faults_of(entries[:_MOST_FAULTS], document)) from error
