"""Bodies of requests into models, within limits, by the JSON parser of pydantic; faults point into the body."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import jiter
from pydantic import BaseModel, ValidationError

from allocator import Fault, InvalidInputError
from allocator.contract.errors import faults_of
from api.errors import InvalidJsonError

_NO_OBJECT = Fault("", "expected a JSON object with the fields of the request")
_TOO_MUCH = Fault("", "this body takes more memory than a worker may use; send a smaller one")
M = TypeVar("M", bound=BaseModel)
#: Faults that are told at most, and one more that says that there are others.
_MOST_FAULTS = 101
_TWICE = re.compile(r'Detected duplicate key "(.*)" at line \d+ column \d+', re.DOTALL)
_TOO_DEEP = "recursion limit exceeded"
_SHOWN = 80
_START_BYTES = 4096


@dataclass(frozen=True)
class JsonLimits:
    """What a body may hold; :class:`api.settings.Settings` has the same fields.

    Attributes:
        max_json_depth: Levels of nesting.
        max_json_values: Numbers, texts, arrays, objects and keys.
        max_layers: Rows of a profile.
        max_formats: Columns of a profile.
        max_rules: Entries of ``pin``, ``allow``, ``forbid``, ``limits``, ``budgets`` and ``batch``, each.
    """

    max_json_depth: int = 64
    max_json_values: int = 5_000_000
    max_layers: int = 100_000
    max_formats: int = 256
    max_rules: int = 1_000


def parsed(model: type[M], body: bytes, limits: JsonLimits) -> M:
    """Parse and validate a body.

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


def decoded(body: bytes, limits: JsonLimits) -> object:
    """Parse a JSON body.

    Args:
        limits: What it may hold; see :func:`require_shallow` for the depth.

    Returns:
        The document. NaN and infinity come through, for the models to point at.

    Raises:
        InvalidJsonError: The text is not JSON, has a key twice, half a character, or a number of thousands of digits.
        InvalidInputError: It holds too much; points at what.

    Example:
        >>> decoded(b'{"gap": 0.5}', JsonLimits())
        {'gap': 0.5}
    """
    # Every value takes a byte and has one of these before it: twenty million empty lists would be gigabytes of objects.
    much = len(body) > limits.max_json_values and sum(map(body.count, b"[{,:")) >= limits.max_json_values
    try:
        # Of a body that is too large only the start, for what is nested too deep as well is so from there.
        document: object = jiter.from_json(body[:_START_BYTES] if much else body, catch_duplicate_keys=True)
    except ValueError as error:
        if not much or str(error).startswith(_TOO_DEEP):
            raise InvalidJsonError(_explained(body, str(error), limits)) from None
    if much:
        detail = f"expected at most {limits.max_json_values} brackets, commas and colons in one body"
        raise InvalidInputError(Fault("", f"{detail}; the operator can raise BITALLOC_MAX_JSON_VALUES"))
    if faults := list(_oversized(document, limits)):
        raise InvalidInputError(*faults)
    return document


def require_shallow(document: object, limits: JsonLimits) -> None:
    """Refuse a document that is nested too deep; for one that fits no model, as none is deep.

    Raises:
        InvalidJsonError: It is nested too deep.

    Example:
        >>> require_shallow([[1]], JsonLimits(max_json_depth=1))
        Traceback (most recent call last):
        api.errors.InvalidJsonError: JSON is nested deeper than 1 levels; a profile needs six
    """
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(limits.max_json_depth):
        if not level:
            return
        members = (node.values() if isinstance(node, dict) else node for node in level)
        level = [member for node in members for member in node if isinstance(member, dict | list)]
    if level:
        raise InvalidJsonError(_too_deep(limits))


def _explained(body: bytes, message: str, limits: JsonLimits) -> str:
    if found := _TWICE.match(message):
        return (
            f"JSON has the key {found[1][:_SHOWN]!r} twice in one object; which one counts is anybody's guess"
        )
    if message.startswith(_TOO_DEEP):
        return _too_deep(limits)
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"JSON has to be UTF-8, and byte {error.start} is not"
    return f"JSON breaks at {message.rpartition(' at ')[2]}: {message.rpartition(' at ')[0]}"


def _too_deep(limits: JsonLimits) -> str:
    return f"JSON is nested deeper than {limits.max_json_depth} levels; a profile needs six"


def _oversized(document: object, limits: JsonLimits) -> Iterator[Fault]:
    # A profile is the body, or one of its members.
    if not isinstance(document, dict):
        return
    rules = dict.fromkeys(("pin", "allow", "forbid", "limits", "budgets", "batch"), limits.max_rules)
    table = {"layers": limits.max_layers, "formats": limits.max_formats}
    for where, node, most in (("", document, table | rules), ("/profile", document.get("profile"), table)):
        for member, count in most.items():
            found = node.get(member) if isinstance(node, dict) else None
            if isinstance(found, (list, dict)) and len(found) > count:
                variable = "BITALLOC_MAX_" + (member.upper() if member in table else "RULES")
                detail = (
                    f"expected at most {count} {member}, got {len(found)}; the operator can raise {variable}"
                )
                yield Fault(f"{where}/{member}", detail)
