"""Parse request bodies, within limits that are checked before anything large is built.

A profile comes to a quarter of a millisecond this way, where :mod:`json` with a hook for duplicate keys takes one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import NoReturn

from pydantic_core import from_json

from allocator import Fault, InvalidInputError
from api.workers.errors import InvalidJsonError
from api.workers.json_limits import JsonLimits
from api.workers.json_shape import JsonShape, json_shape

#: Finding the brackets of a shorter text that are not in its strings takes longer than counting all of them.
_SMALL_BYTES = 4096


def decoded(body: bytes, limits: JsonLimits) -> object:
    """Parse a JSON body.

    Args:
        body: UTF-8 text.
        limits: What it may hold.

    Returns:
        The document. NaN and infinity come through, for the models to point at.

    Raises:
        InvalidJsonError: The text is not JSON, is nested too deep, has a key twice, or half a character.
        InvalidInputError: It holds too much; points at what.

    Example:
        >>> decoded(b'{"gap": 0.5}', JsonLimits())
        {'gap': 0.5}
    """
    shape = _small(body, limits) or json_shape(body, limits.max_json_depth, limits.max_json_values)
    if shape.depth > limits.max_json_depth:
        raise InvalidJsonError(
            f"JSON is nested deeper than {limits.max_json_depth} levels; a profile needs six"
        )
    if shape.values > limits.max_json_values:
        detail = f"expected at most {limits.max_json_values} values in one body; the operator can raise "
        raise InvalidInputError(Fault("", detail + "BITALLOC_MAX_JSON_VALUES"))
    try:
        document = from_json(body)
    except ValueError as error:
        _explain(body, str(error))
    # Every key has a colon; where fewer came through, some came twice, or a colon was part of a text.
    members = _members(document)
    if shape.colons != members:
        shape = json_shape(body, limits.max_json_depth, limits.max_json_values)
    if shape.colons != members:
        _explain(body, "an object has a key twice")
    if faults := list(_oversized(document, limits)):
        raise InvalidInputError(*faults)
    return document


def _small(body: bytes, limits: JsonLimits) -> JsonShape | None:
    # Upper bounds from counts that need no arrays; None where they are not enough.
    depth, colons = body.count(b"[") + body.count(b"{"), body.count(b":")
    values = 1 + depth + colons + body.count(b",")
    if len(body) > _SMALL_BYTES or depth > limits.max_json_depth or values > limits.max_json_values:
        return None
    return JsonShape(depth, values, colons)


def _members(document: object) -> int:
    # Level by level: a call for each row of a table would cost more than parsing it did.
    count, level = 0, [document]
    while level:
        objects = [node for node in level if type(node) is dict]
        arrays = [node for node in level if type(node) is list]
        count += sum(map(len, objects))
        below = chain(*(node.values() for node in objects), chain.from_iterable(arrays))
        level = [node for node in below if type(node) is dict or type(node) is list]
    return count


def _explain(body: bytes, otherwise: str) -> NoReturn:
    # The fast parser does not say where; the slow one does.
    try:
        json.loads(body.decode("utf-8"), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise InvalidJsonError(f"JSON breaks at character {error.pos}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise InvalidJsonError(f"JSON has to be UTF-8, and byte {error.start} is not") from None
    except _TwiceError as error:
        detail = (
            f"JSON has the key {str(error)[:80]!r} twice in one object; which one counts is anybody's guess"
        )
        raise InvalidJsonError(detail) from None
    except ValueError:  # more digits than Python turns into an integer
        pass
    raise InvalidJsonError(f"JSON cannot be read: {otherwise}")


class _TwiceError(Exception):
    pass


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _TwiceError(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return members


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
