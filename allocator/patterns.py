"""Which layers a name or glob means."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import translate
from re import compile as regex

from allocator.errors import unknown


def matching(pattern: str, names: Sequence[str]) -> list[int]:
    """Find the names that a pattern means.

    An exact name wins over its reading as a glob, so ``blocks[0]`` can be named literally.

    Args:
        pattern: A name, or a glob with ``*``, ``?`` and ``[…]``.
        names: All names, in order.

    Returns:
        Indices of the matching names, in order.

    Raises:
        ValueError: Nothing matches; the message lists near names.

    Example:
        >>> matching("block.*.key", ["block.0.key", "block.0.value", "block.1.key"])
        [0, 2]
    """
    if pattern in names:
        return [names.index(pattern)]
    glob = regex(translate(pattern))
    found = [index for index, name in enumerate(names) if glob.match(name)]
    if not found:
        raise ValueError(unknown(pattern, names, "layer or glob"))
    return found
