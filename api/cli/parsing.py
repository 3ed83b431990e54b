"""``name=value`` options, and files to read and write."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from allocator import Fault, InvalidInputError
from quantize.storage.files import replacing

Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


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


def write(path: Path, content: str, option: str = "--out") -> None:
    """Write a result: whole or not at all, under a temporary name that is renamed.

    Args:
        path: The file; what is no plain file, such as a pipe or ``/dev/stdout``, is written to as it is.
        option: Name of the option, for the message.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    try:
        if _is_stream(path):
            path.write_text(content, encoding="utf-8")
            return
        with replacing(path) as partial:
            partial.write_text(content, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(Fault(option, f"cannot write {str(path)!r}: {error.strerror}")) from error


def require_outputs(
    outputs: Iterable[tuple[str, Path | None]],
    *,
    force: bool,
    folder: bool = False,
    journal: Path | None = None,
) -> None:
    """Make sure, before any work, that all files of a command can be written and that none replaces another.

    Args:
        outputs: Name of the option and what to write; None where there is nothing to write.
        force: Whether what exists may be replaced.
        folder: Whether folders are to be written rather than files.
        journal: What ``--journal`` names; it may exist, for the run goes on from it.

    Raises:
        InvalidInputError: A file exists and may not be replaced, cannot be written, or is written twice.
    """
    options: dict[Path, str] = {}
    if journal is not None:
        require_writable(journal, "--journal")
        options[journal.absolute()] = "--journal"
    for option, path in outputs:
        if path is None or _is_stream(path):
            continue
        if os.path.isdir(path) and not folder:
            raise InvalidInputError(Fault(option, f"cannot write {str(path)!r}: Is a directory; name a file"))
        if os.path.lexists(path) and not force:
            detail = f"{str(path)!r} exists; choose another name, or replace it with --force"
            raise InvalidInputError(Fault(option, detail))
        require_writable(path, option)
        if path.absolute() in options:
            detail = f"{str(path)!r} is what {options[path.absolute()]} writes; name another file"
            raise InvalidInputError(Fault(option, detail))
        options[path.absolute()] = option


def require_writable(path: Path, option: str = "--out") -> None:
    """Make sure that something can be written before long work begins; nothing is made yet.

    Args:
        path: What to write; folders on the way to it may be missing.
        option: Name of the option, for the message.

    Raises:
        InvalidInputError: It cannot be written.
    """
    try:
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        # A file without a name: permissions alone do not tell of read-only file systems.
        with tempfile.TemporaryFile(dir=folder), suppress(FileNotFoundError):
            os.lstat(path)  # names may be too long
    except OSError as error:
        raise InvalidInputError(Fault(option, f"cannot write {str(path)!r}: {error.strerror}")) from error


def _is_stream(path: Path) -> bool:
    # What /dev/stdout leads to may be a plain file, and is to be written to and not replaced.
    special = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    return special or path.parent == Path("/dev")
