"""Names of layers as patterns: written so that they match one layer and no other, and read back."""

from __future__ import annotations

import glob
import re

_SPECIAL = re.compile(r"[\\.^$*+?{}\[\]()|]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ONE_OF = re.compile(r"\[(.)\]", re.DOTALL)


def escaped(name: str) -> str:
    r"""Escape what means something in every dialect in use (Python, PCRE, ECMAScript), and nothing else.

    Returns:
        A regular expression that matches the name.

    Example:
        >>> print(escaped("model.layers.0.up-proj"))
        model\.layers\.0\.up-proj
    """
    return _SPECIAL.sub(r"\\\g<0>", name)


def anchored(name: str) -> str:
    r"""A regular expression for one layer: names are prefixes of others (``layers.1``, ``layers.10``).

    Returns:
        The expression, from start to end.

    Example:
        >>> print(anchored("layers.1"))
        ^layers\.1$
    """
    return f"^{escaped(name)}$"


def literal(pattern: str) -> str | None:
    r"""The one name that a regular expression matches.

    Args:
        pattern: A regular expression; ``^`` and ``$`` at its ends are left out.

    Returns:
        The name, or None where the expression may match several.

    Example:
        >>> literal(r"^layers\.1$"), literal(r"layers\.\d")
        ('layers.1', None)
    """
    body = pattern.removeprefix("^")
    ends = body.endswith("$") and (len(body) - len(body.rstrip("\\$"))) % 2 == 1
    body = body[:-1] if ends else body
    if _SPECIAL.search(_ESCAPED.sub("", body)) or any(text.isalnum() for text in _ESCAPED.findall(body)):
        return None
    return _ESCAPED.sub(r"\1", body)


def globbed(name: str) -> str:
    """A shell pattern for one layer.

    Returns:
        The pattern.

    Example:
        >>> globbed("blocks[0].up")
        'blocks[[]0].up'
    """
    return glob.escape(name)


def glob_literal(pattern: str) -> str | None:
    """The one name that a shell pattern matches.

    Returns:
        The name, or None where the pattern may match several.

    Example:
        >>> glob_literal("blocks[[]0].up"), glob_literal("*.up")
        ('blocks[0].up', None)
    """
    return None if re.search(r"[*?\[]", _ONE_OF.sub("", pattern)) else _ONE_OF.sub(r"\1", pattern)
