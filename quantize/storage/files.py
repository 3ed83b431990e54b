"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from allocator import Fault, InvalidInputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to a temporary name in the same folder, then rename.

    Args:
        path: The file to make or replace.

    Yields:
        The temporary name; it is renamed on success and removed on failure, which leaves ``path`` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name next to it, then rename.

    Args:
        path: The folder to make or replace.

    Yields:
        The temporary folder; it is renamed on success and removed on failure, which leaves ``path`` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield partial
        partial.chmod(0o755)
        if path.exists():
            # Folders that hold files cannot be renamed over; the earlier one steps aside for the instant between.
            aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.")) / "earlier"
            path.rename(aside)
            try:
                partial.rename(path)
            except BaseException:
                aside.rename(path)
                raise
            finally:
                shutil.rmtree(aside.parent, ignore_errors=True)
        else:
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_free(path: Path, *, force: bool) -> None:
    """Refuse to overwrite.

    Args:
        path: File or folder to write.
        force: Whether an earlier one may be replaced.

    Raises:
        InvalidInputError: It exists, and may not be replaced.
    """
    if path.exists() and not force:
        detail = f"{str(path)!r} exists; choose another name, or replace it with force=True (--force)"
        raise InvalidInputError(Fault("/path", detail))
