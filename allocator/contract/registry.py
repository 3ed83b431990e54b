"""What can be asked for by name: solvers, backends, estimators, all that takes one file and one line to add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from importlib import import_module
from typing import TypeVar, cast

from allocator.contract.errors import Fault, InvalidInputError, unknown

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """Names, in order, and what they stand for; what lies in a module is imported when it is asked for.

    Args:
        what: What a name names, in the singular, for messages ("backend").
        entries: Name → the thing, or the dotted name of the module that holds it.
        attribute: What the thing is called in its module.
        pointer: Where an input has the name; ``/what`` when absent.
        also: Names that are accepted without an entry, for messages.

    Example:
        >>> shapes = Registry[float]("constant", {"pi": "math", "half": 0.5}, attribute="pi")
        >>> shapes["half"], round(shapes["pi"], 2)
        (0.5, 3.14)
        >>> shapes.find("haf")
        Traceback (most recent call last):
        allocator.contract.errors.InvalidInputError: /constant: unknown constant 'haf'; did you mean 'half'? known: ...
    """

    def __init__(
        self,
        what: str,
        entries: Mapping[str, T | str],
        *,
        attribute: str = "",
        pointer: str = "",
        also: Sequence[str] = (),
    ) -> None:
        self._what = what
        self._entries = dict(entries)
        self._attribute = attribute
        self._pointer = pointer or f"/{what}"
        self._also = tuple(also)

    def find(self, name: str) -> T:
        """Look a name up that somebody wrote.

        Returns:
            What it stands for.

        Raises:
            InvalidInputError: It is unknown; the message says which are near and which are known.
        """
        if name not in self:
            raise InvalidInputError(Fault(self._pointer, unknown(name, (*self._also, *self), self._what)))
        return self[name]

    def chosen(self, names: Sequence[str] | Mapping[str, T]) -> Mapping[str, T]:
        """Return what each name stands for; a mapping already says so."""
        return names if isinstance(names, Mapping) else {name: self.find(name) for name in names}

    def __getitem__(self, name: str) -> T:
        """Return what a known name stands for."""
        entry = self._entries[name]
        if isinstance(entry, str):
            return cast("T", getattr(import_module(entry), self._attribute))
        return entry

    def __setitem__(self, name: str, entry: T | str) -> None:
        """Register the thing, or the module that holds it."""
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        """Take a name out."""
        del self._entries[name]

    def __contains__(self, name: object) -> bool:
        """Return whether a name is known, without importing anything."""
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Return the names in the order in which they were registered."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Return how many names there are."""
        return len(self._entries)
