"""Inline profiles that came before are known by their text, and not parsed again.

Whoever plans one model under many budgets sends the same profile each time, and to parse and check it takes longer than
to plan with it. Where a body holds the text of a profile that is at hand, a mark that nobody can foresee takes the
place of the text. If what is left is a valid request with the mark as its ``profile``, then the text was all of that
member, and the profile stands for it. Otherwise the whole body is parsed, so that errors are the same.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import TypeVar

from pydantic import ValidationError

from allocator import InvalidInputError, Profile
from api.workers.cache import Work
from api.workers.errors import InvalidJsonError
from api.workers.json_body import decoded
from api.workers.parsing import parsed
from bitalloc.wire import ProfileRequest

_MEMBER = re.compile(rb'"profile"\s*:\s*(?=\{)')
#: Finding where a longer text ends would take longer than most plans.
_LONGEST_BYTES = 4_000_000
M = TypeVar("M", bound=ProfileRequest)


def parsed_about_profile(model: type[M], work: Work) -> M:
    """Parse and validate a body that may hold a profile.

    Args:
        model: What it has to be.
        work: The task. The text of a profile that its desk has already is noted there.

    Returns:
        The model.

    Raises:
        InvalidJsonError: The body is not JSON.
        InvalidInputError: It is not such a model, or too large; names the offending fields.
    """
    member = _MEMBER.search(work.body)
    if member is None:
        return parsed(model, work.body, work.limits)
    known = work.desk.recognise(work.body, member.end())
    if known is not None:
        profile, text = known
        request = _standing_in(model, work, member.end(), text, profile)
        if request is not None:
            return request
    request = parsed(model, work.body, work.limits)
    if request.profile is not None and work.desk.find(request.profile.digest()) is not None:
        text = _text_at(work.body, member.end())
        if text and _standing_in(model, work, member.end(), text, request.profile) is not None:
            work.desk.note(request.profile.digest(), text)
    return request


def _standing_in(model: type[M], work: Work, start: int, text: bytes, profile: Profile) -> M | None:
    mark = secrets.token_hex()
    rest = work.body[:start] + f'"{mark}"'.encode() + work.body[start + len(text) :]
    try:
        document = decoded(rest, work.limits)
        if not isinstance(document, dict) or document.get("profile") != mark:
            return None
        return model.model_validate(document | {"profile": profile})
    except (InvalidJsonError, InvalidInputError, ValidationError):
        return None


def _text_at(body: bytes, start: int) -> bytes:
    # The object that starts there; nothing where it is too long, or places of characters are not those of bytes.
    if len(body) > _LONGEST_BYTES or not body.isascii():
        return b""
    try:
        _, end = json.JSONDecoder().raw_decode(body.decode("ascii"), start)
    except ValueError:
        return b""
    return body[start:end]
