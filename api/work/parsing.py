"""Bodies of requests into models, with the faults pointing into the body."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from allocator import Fault, InvalidInputError
from allocator.errors import decoded, faults_of
from api.work.errors import InvalidJsonError

_NO_OBJECT = Fault("", "expected a JSON object that holds a profile and what is asked of it")
M = TypeVar("M", bound=BaseModel)


def parsed(model: type[M], body: bytes) -> M:
    """Parse and validate a body.

    Args:
        model: What it has to be.
        body: JSON.

    Returns:
        The model.

    Raises:
        InvalidJsonError: It is not JSON.
        InvalidInputError: It is not such a model; names every offending field.
    """
    if not body.strip():
        raise InvalidInputError(_NO_OBJECT)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        entries = error.errors()
        if entries[0]["type"] == "json_invalid":
            raise InvalidJsonError(f"JSON breaks: {entries[0]['ctx']['error']}") from error
        if not entries[0]["loc"] and entries[0]["type"] == "model_type":
            raise InvalidInputError(_NO_OBJECT) from error
        raise InvalidInputError(*faults_of(entries, decoded(body))) from error
