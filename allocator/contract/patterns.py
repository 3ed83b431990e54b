"""Which layers (or formats) a name or glob means."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import translate
from re import compile as regex

from allocator.contract.errors import unknown


def matching(pattern: str, names: Sequence[str], what: str = "layer or glob") -> list[int]:
    """Find the names that a pattern means.

    An exact name wins over its reading as a glob, so ``blocks[0]`` can be named literally.

    Args:
        pattern: A name, or a glob with ``*``, ``?`` and ``[…]``.
        names: All names, in order.
        what: What the names name, for the message.

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
        raise ValueError(unknown(pattern, names, what))
    return found


def captured(pattern: str, name: str) -> str | None:
    """Read the part of a name that stands where a glob has ``{}``.

    Args:
        pattern: A glob with one ``{}``, which stands for a part without dots.
        name: The name.

    Returns:
        The part; None where the name does not fit.

    Raises:
        ValueError: The pattern does not have exactly one ``{}``.

    Example:
        >>> captured("model.layers.{}.mlp.*", "model.layers.17.mlp.up")
        '17'
    """
    parts = pattern.split("{}")
    if len(parts) != 2:
        raise ValueError(f"expected a glob with one {{}} where names differ, got {pattern!r}")
    before, after = (_body(part) for part in parts)
    match = regex(f"(?s:{before}([^.]+){after})").fullmatch(name)
    return match[1] if match else None


def _body(glob: str) -> str:
    # `translate` wraps its result in (?s:…) and an anchor.
    return translate(glob).removeprefix("(?s:").rpartition(")")[0]
