"""The files of the service are its user's alone: 0600 in folders of 0700."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from allocator import Fault, InvalidInputError

_FOLDER, _FILE = 0o700, 0o600


def private_folder(folder: Path, setting: str) -> None:
    """Make a folder that only its user may enter; one that is there for other things too stays as it is.

    Args:
        setting: Variable that named it.

    Raises:
        InvalidInputError: It cannot be made, or nothing can be written into it.
    """
    try:
        folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        detail = f"the data folder cannot be made: {error}; name another one"
        raise InvalidInputError(Fault(setting, detail)) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        detail = f"the data folder {folder} cannot be written by this user; name another one or change its permissions"
        raise InvalidInputError(Fault(setting, detail))
    if _is_ours(folder):
        folder.chmod(_FOLDER)


def private_file(path: Path, setting: str) -> None:
    """Make a file that only its user may read, or take it from the others.

    SQLite gives the files that it makes beside it the same permissions.

    Args:
        setting: Variable that named its place.

    Raises:
        InvalidInputError: It cannot be opened for writing.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, _FILE)
    except OSError as error:
        detail = f"the database {path} cannot be opened for writing: {error.strerror}"
        raise InvalidInputError(Fault(setting, detail)) from error
    try:
        status = os.fstat(descriptor)
        if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) != _FILE:
            os.fchmod(descriptor, _FILE)
            for beside in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                if beside.exists():
                    beside.chmod(_FILE)
    finally:
        os.close(descriptor)


def _is_ours(folder: Path) -> bool:
    # A folder of an earlier release, made with wider permissions; never somebody's home or /tmp.
    names = [entry.name for entry in folder.iterdir()]
    known = all(name.startswith(("bitalloc.db", "queue.db", "reserve")) for name in names)
    status = folder.stat()
    return bool(names) and known and status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) != _FOLDER
