"""A document as a program gives it: its JSON, or the file that holds it."""

from __future__ import annotations

from pathlib import Path

from allocator.contract.errors import Fault, InvalidInputError

_SHOWN = 60


def json_in(source: str | bytes | Path, what: str) -> str | bytes:
    """Find the JSON that a text, bytes or a path stand for.

    Bytes are JSON. A ``str`` that begins with ``{`` is JSON too; any other is the path of a file, as it is for
    :func:`open`. So a text from a stranger is never given here: it could name a file.

    Args:
        source: The text, bytes or path.
        what: What the document is, for messages ("profile").

    Returns:
        The JSON, not yet looked into.

    Raises:
        InvalidInputError: The file cannot be read; says which of the two was meant.

    Example:
        >>> json_in(' {"layers": []}', "profile")
        ' {"layers": []}'
        >>> json_in("profil.json", "profile")
        Traceback (most recent call last):
        allocator.contract.errors.InvalidInputError: /: expected JSON, which begins with '{', or the path of a file \
with the profile; 'profil.json' does not begin with '{', and as a path: No such file or directory
    """
    if isinstance(source, bytes) or (isinstance(source, str) and source.lstrip().startswith("{")):
        return source
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(source, Path):
            raise InvalidInputError(Fault("", f"cannot read the {what}: {error}")) from error
        shown = repr(source if len(source) <= _SHOWN else source[:_SHOWN] + "…")
        why = error.strerror if isinstance(error, OSError) else error
        detail = (
            f"expected JSON, which begins with '{{', or the path of a file with the {what}; "
            f"{shown} does not begin with '{{', and as a path: {why}"
        )
        raise InvalidInputError(Fault("", detail)) from error
