"""A little room set aside, so that on a full disk something can still be deleted.

To delete, SQLite has to write first. Where the disk is full it cannot, and nobody could make room. So a file beside the
database holds some room while there is enough of it; a deletion that finds none lets the file go, and tries again.
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
    """Room set aside.

    Attributes:
        path: The file that holds it.
    """

    path: Path

    def take(self) -> None:
        """Set room aside, where it is not already and there is plenty."""
        with contextlib.suppress(OSError):
            if self.path.exists() or shutil.disk_usage(self.path.parent).free < _TIMES * 2**16:
                return
            size = min(_BYTES, shutil.disk_usage(self.path.parent).free // _TIMES)
            descriptor = os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.write(descriptor, bytes(size))  # a hole would hold no room
            finally:
                os.close(descriptor)

    def let_go(self) -> bool:
        """Give the room back to the disk.

        Returns:
            Whether there was any.
        """
        try:
            self.path.unlink()
        except OSError:
            return False
        return True
