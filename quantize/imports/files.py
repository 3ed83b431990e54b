"""Files of scores."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.exports.documents import read_json

_LARGEST = sys.float_info.max


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Returns:
        Its content.

    Raises:
        InvalidInputError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(Fault("/paths", f"cannot read {str(path)!r}: {error.strerror}")) from error


def read_document(path: Path) -> Any:  # noqa: ANN401 - JSON is anything
    """Return the content of a JSON file."""
    document, _ = read_json(
        {f"{path.name.removesuffix('.json')}.json": read_bytes(path).decode("utf-8", "replace")}
    )
    return document


def only(paths: Sequence[Path], source: str) -> Path:
    """Expect one file.

    Args:
        source: Whose file, for the message.

    Returns:
        The file.

    Raises:
        InvalidInputError: There are several.
    """
    if len(paths) != 1:
        raise InvalidInputError(Fault("/paths", f"{source} has one file of scores, got {len(paths)}"))
    return paths[0]


def number(value: object, *where: str | int) -> float:
    """Expect a finite number.

    Args:
        *where: Path to it.

    Returns:
        The number.

    Raises:
        InvalidInputError: It is something else.
    """
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST
    if not known:
        raise InvalidInputError(Fault(pointer(where), f"expected a finite number, got {str(value)[:60]!r}"))
    return float(value)  # type: ignore[arg-type]


def amount(value: object, *where: str | int) -> float:
    """Expect a finite number of at least 0: bits, bytes.

    Args:
        *where: Path to it.

    Returns:
        The number.

    Raises:
        InvalidInputError: It is something else.
    """
    found = number(value, *where)
    if found < 0:
        raise InvalidInputError(Fault(pointer(where), f"expected a number of at least 0, got {found:g}"))
    return found
