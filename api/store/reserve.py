"""A little disk space set aside, so that on a full disk something can still be deleted.

To delete, SQLite has to write first. Where the disk is full it cannot, and nobody could free any. So a file beside the
database takes some space while there is enough of it; a deletion that finds none removes the file, and tries again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_BYTES = 2**20
#: Taken only where this many times as much is left.
_TIMES = 4


@dataclass(frozen=True)
class Reserve:
    """Disk space set aside.

    Attributes:
        path: The file that takes it.
    """

    path: Path

    def take(self) -> None:
        """Set space aside, where it is not already and there is plenty."""
        with contextlib.suppress(OSError):
            if self.path.exists() or shutil.disk_usage(self.path.parent).free < _TIMES * 2**16:
                return
            size = min(_BYTES, shutil.disk_usage(self.path.parent).free // _TIMES)
            descriptor = os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.write(descriptor, bytes(size))  # a hole would take no space
            finally:
                os.close(descriptor)

    def release(self) -> bool:
        """Give the space back to the disk.

        Returns:
            Whether there was any.
        """
        try:
            self.path.unlink()
        except OSError:
            return False
        return True
