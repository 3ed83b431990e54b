"""The errors bitalloc raises on purpose.

::

    BitallocError
    ├── InvalidInputError   (also ValueError)    what was given cannot be used: where, expected, advice
    ├── MissingPackageError (also ImportError)   an optional package is needed: what to install
    └── CertificateError    (also RuntimeError)  a solver's answer contradicts the tables; a bug in the solver
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import Any

_ABSENT = object()
#: To compare a name with one other takes some ten microseconds, and more the longer they are.
_MOST_COMPARED = 2_000
_LONGEST = 512


class BitallocError(Exception):
    """Root of every error that bitalloc raises on purpose."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with an input.

    Attributes:
        pointer: Where, as an RFC 6901 JSON pointer into the input (``/layers/3/unit``).
        detail: What was expected, what came, and what to do.
    """

    pointer: str
    detail: str

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.detail}"


class InvalidInputError(BitallocError, ValueError):
    """What was given cannot be used; carries one :class:`Fault` per offending field.

    Example:
        >>> raise InvalidInputError(Fault("/budgets/kl", "expected a number, got 'a lot'"))
        Traceback (most recent call last):
        allocator.contract.errors.InvalidInputError: /budgets/kl: expected a number, got 'a lot'
    """

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


class MissingPackageError(BitallocError, ImportError):
    """An optional package is needed for what was asked."""


class CertificateError(BitallocError, RuntimeError):
    """A solver's answer contradicts the tables it was solved from."""


def pointer(location: Sequence[str | int]) -> str:
    """Write a path of keys and indices as an RFC 6901 JSON pointer.

    Args:
        location: Keys and indices from the outermost inwards.

    Returns:
        The pointer; empty for the whole document.

    Example:
        >>> pointer(("layers", 3, "a/b"))
        '/layers/3/a~1b'
    """
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in location)


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """Say that a name is unknown, which names are near, and which are known.

    Args:
        name: The name that came.
        known: The names that would have been accepted.
        what: What the name names, in the singular ("budget").

    Returns:
        One sentence for a :class:`Fault`.

    Example:
        >>> unknown("wieght_bytes", ["weight_bytes", "kl"], "budget")
        "unknown budget 'wieght_bytes'; did you mean 'weight_bytes'? known: 'weight_bytes', 'kl'"
    """
    names = list(known)
    likely = (
        names if len(names) <= _MOST_COMPARED else [one for one in names if abs(len(one) - len(name)) <= 2]
    )
    near = get_close_matches(name[:_LONGEST], likely[:_MOST_COMPARED], n=3)
    guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else ";"
    shown = ", ".join(map(repr, names[:20])) or "none"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"unknown {what} {name!r}{guess} known: {shown}{more}"


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package where it is used.

    Args:
        module: Dotted name of the module.
        extra: The extra of the ``bitalloc`` distribution that installs it.

    Returns:
        The imported module.

    Raises:
        MissingPackageError: The package is not installed; the message says what to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{module.partition('.')[0]} is needed here and cannot be imported ({error}); "
            f"install it with: pip install 'bitalloc[{extra}]'"
        ) from error


def faults_of(entries: Iterable[Mapping[str, Any]], document: object, skip: int = 0) -> list[Fault]:
    """Translate pydantic's report into faults with JSON pointers into the document.

    Args:
        entries: ``ValidationError.errors()``.
        document: What was validated; locations that pydantic makes up (the branch of a union) are not in it.
        skip: Leading parts of each location to leave out.

    Returns:
        One fault per offending field.
    """
    details: dict[str, list[str]] = {}
    guesses: set[str] = set()
    for entry in entries:
        location = entry["loc"][skip:]
        real = tuple(_located(location, document, entry["type"]))
        where = pointer((*real, *entry.get("ctx", {}).get("at", ())))
        if len(real) < len(location):
            guesses.add(where)
        found = details.setdefault(where, [])
        if (detail := _detail(entry)) not in found:
            found.append(detail)
    # Where one branch of a union got further than another, what the other says is beside the point.
    for where in guesses:
        if any(other.startswith(f"{where}/") for other in details):
            del details[where]
    return [Fault(where, "; or: ".join(texts)) for where, texts in details.items()]


def decoded(source: str | bytes) -> object:
    """Read JSON to find one's way in it, whether or not it is valid.

    Args:
        source: JSON text.

    Returns:
        The document; None where it cannot be read.
    """
    try:
        return json.loads(source)
    except (ValueError, RecursionError):
        return None


def _located(location: Sequence[str | int], document: object, kind: str) -> Iterator[str | int]:
    for depth, part in enumerate(location):
        inside = _inside(document, part)
        if inside is not _ABSENT:
            document = inside
            yield part
        elif kind == "missing" and depth == len(location) - 1:
            yield part


def _inside(document: object, part: str | int) -> object:
    if isinstance(document, Mapping):
        return document.get(part, _ABSENT)
    if isinstance(document, (list, tuple)) and isinstance(part, int) and part < len(document):
        return document[part]
    return _ABSENT


def _detail(entry: Mapping[str, Any]) -> str:
    if entry["type"] == "extra_forbidden":
        return f"unknown field {str(entry['loc'][-1])!r}; check the spelling or remove it"
    if entry["type"] in {"missing", "inconsistent"}:
        return str(entry["msg"])
    return f"{entry['msg']} (got {_shown(entry['input'])})"


def _shown(given: object) -> str:
    if isinstance(given, (dict, list, tuple)):
        return f"{type(given).__name__} of {len(given)}"
    text = repr(given)
    return text if len(text) <= 80 else text[:77] + "..."
