"""What a call costs this process: seconds of processor time, and memory at its peak."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path


def seconds(run: Callable[[], object]) -> tuple[float, float | None]:
    """Call a function.

    Returns:
        Seconds of processor time, and MiB that were resident at the peak beyond those before; None where the system
        does not say.
    """
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # memory that was freed but kept would hide the next peak
    status, resident = Path("/proc/self/status"), 0
    if status.exists():
        Path("/proc/self/clear_refs").write_text("5")  # start the peak from here
        resident = _kib(status, "VmRSS")
    start = time.process_time()
    run()
    took = time.process_time() - start
    return took, (_kib(status, "VmHWM") - resident) / 1024 if status.exists() else None


def _kib(status: Path, field: str) -> int:
    (line,) = [line for line in status.read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1])
