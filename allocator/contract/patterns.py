"""Which layers (or formats) a name or glob means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import translate
from re import compile as regex

from allocator.contract.errors import Fault, InvalidInputError, unknown
from allocator.contract.processor_time import ProcessorTimeError, processor_time

#: Processor time for all patterns of a request; a hundred of them over 100,000 layers need less.
_MOST_S = 5.0


@contextmanager
def comparing_names() -> Iterator[None]:
    """Bound the time for comparing patterns with names; also a decorator.

    Yields:
        Nothing.

    Raises:
        InvalidInputError: The block took too long, as a thousand globs over a hundred thousand layers do.
    """
    try:
        with processor_time(_MOST_S):
            yield
    except ProcessorTimeError as error:
        detail = f"its names and globs take more than {_MOST_S:g} s to compare with the layers; give fewer"
        raise InvalidInputError(Fault("", detail)) from error


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
    found = []
    if any(special in pattern for special in "*?["):
        glob = regex(translate(pattern))
        found = [index for index, name in enumerate(names) if glob.match(name)]
    if not found:
        raise ValueError(unknown(pattern, names, what))
    return found


def captured(pattern: str, name: str) -> str | None:
    """Read the part of a name that stands where a glob has ``{}``.

    Args:
        pattern: A glob with one ``{}``, which stands for a part without dots.

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
