"""``name=value`` options, and files to read and write."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from allocator import Fault, InvalidInputError
from quantize.storage.files import replacing


def pairs(option: str, given: Iterable[str]) -> dict[str, str]:
    """Read ``name=value`` options.

    Args:
        option: Name of the option, for the message.

    Returns:
        Name to value. The last ``=`` separates them, for names may hold one.

    Raises:
        InvalidInputError: A value lacks the ``=``, or a name comes twice.

    Example:
        >>> pairs("--budget", ["weight_bytes=12 MiB"])
        {'weight_bytes': '12 MiB'}
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        if not equals or not name.strip():
            raise InvalidInputError(Fault(option, f"expected NAME=VALUE, got {text!r}"))
        if name.strip() in found:
            raise InvalidInputError(Fault(option, f"{name.strip()!r} is given twice"))
        found[name.strip()] = value.strip()
    return found


def lists(option: str, given: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read ``name=a,b`` options.

    Args:
        option: Name of the option, for the message.

    Returns:
        Name to values.

    Raises:
        InvalidInputError: A value lacks the ``=``, or a name comes twice.
    """
    return {
        name: tuple(part.strip() for part in value.split(",")) for name, value in pairs(option, given).items()
    }


def objects(option: str, given: Iterable[str]) -> list[dict[str, object]]:
    """Read options that are JSON objects.

    Args:
        option: Name of the option, for the message.

    Returns:
        The objects.

    Raises:
        InvalidInputError: A text is no JSON object.

    Example:
        >>> objects("--limit", ['{"formats": ["int8"], "max": 10}'])
        [{'formats': ['int8'], 'max': 10}]
    """
    found = []
    for text in given:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise InvalidInputError(
                Fault(option, f"expected a JSON object, got {text!r}: {error}")
            ) from error
        if not isinstance(value, dict):
            raise InvalidInputError(Fault(option, f"expected a JSON object, got {text!r}"))
        found.append(value)
    return found


def amount(text: str) -> float | str:
    """Read an amount: a bare number, or a text with a unit for the library to read.

    Args:
        text: What was typed.

    Returns:
        A number where the text is one.
    """
    try:
        return float(text)
    except ValueError:
        return text


def write(path: Path, content: str) -> None:
    """Write a result: whole or not at all, under a temporary name that is renamed.

    Args:
        path: The file; what is no plain file, such as a pipe or ``/dev/stdout``, is written to as it is.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(content, encoding="utf-8")
            return
        with replacing(path) as partial:
            partial.write_text(content, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(Fault("--out", f"cannot write {str(path)!r}: {error.strerror}")) from error


def require_writable(path: Path) -> None:
    """Make sure that a file can be written before long work begins.

    Args:
        path: The file; its folder is made.

    Raises:
        InvalidInputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise InvalidInputError(
                Fault("--out", f"cannot write {str(path)!r}: not a file in a writable folder")
            )
    except OSError as error:
        raise InvalidInputError(Fault("--out", f"cannot write {str(path)!r}: {error.strerror}")) from error
