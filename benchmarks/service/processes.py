"""Services in processes of their own, and what memory they take."""

from __future__ import annotations

import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.children import PYTHON, environment

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Running:
    """A service.

    Attributes:
        url: Where it listens.
        process: Its process.
        start_s: From the start of the process to the first answer.
    """

    url: str
    process: subprocess.Popen[str]
    start_s: float

    def memory_bytes(self) -> int:
        """Add up the resident memory of the process and of those that it started.

        Returns:
            Bytes; pages that they share count in each.
        """
        return sum(int(_read(pid, "statm")[1]) * _PAGE_BYTES for pid in self._pids())

    def cpu_s(self) -> float:
        """Return the processor seconds of the process and of those that it started, so far."""
        # Fields 14 and 15 of stat; the name before them has no blanks here.
        return sum(sum(map(int, _read(pid, "stat")[13:15])) for pid in self._pids()) / _TICKS

    def _pids(self) -> list[int]:
        pids = [self.process.pid]
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
        return pids


def _read(pid: int, name: str) -> list[str]:
    return Path(f"/proc/{pid}/{name}").read_text().split()


@contextmanager
def running(module: Sequence[str], probe: str) -> Iterator[Running]:
    """Run a service with an empty data folder.

    Args:
        module: What to give to ``python -m``.
        probe: Path that answers as soon as the service works.

    Yields:
        The service; it is gone at the end.
    """
    with TemporaryDirectory() as folder:
        variables = environment(BITALLOC_DATA_DIR=folder, BITALLOC_LOG_LEVEL="info")
        began = time.perf_counter()
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(
                [*PYTHON, "-m", *module],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=variables,
            )
        assert process.stdout is not None
        try:
            match = re.search(r"http://[^\s]+", process.stdout.readline())
            assert match is not None, (Path(folder) / "log").read_text()
            _wait(match[0] + probe)
            yield Running(match[0], process, time.perf_counter() - began)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _wait(url: str) -> None:
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return
        except OSError:
            pass
        time.sleep(0.01)
