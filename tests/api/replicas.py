"""Services in processes of their own, to be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil

ROOT = Path(__file__).parents[2]


class Replica:
    """One service.

    Args:
        settings: ``BITALLOC_*`` variables without their prefix.
        notes: Where slow solvers note what becomes of them.
    """

    def __init__(self, notes: Path, settings: dict[str, object]) -> None:
        environment = {f"BITALLOC_{name.upper()}": str(value) for name, value in settings.items()}
        environment |= {"PYTHONPATH": str(ROOT), "BITALLOC_TEST_NOTES": str(notes)}
        environment["BITALLOC_PLUGINS"] = json.dumps(["tests.api.solvers"])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | environment,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.http = httpx2.Client(base_url=self.url, timeout=60)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self.process.terminate()
        self.process.wait(timeout=30)

    def close(self) -> None:
        """Be done with it, in whatever state it is."""
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def replicas(notes: Path, *settings: dict[str, object]) -> Iterator[list[Replica]]:
    """As many services as there are settings."""
    running: list[Replica] = []
    try:
        for each in settings:
            running.append(Replica(notes, each))
        yield running
    finally:
        for replica in running:
            replica.close()


def eventually(true: Callable[[], Any], within_s: float = 40.0) -> Any:
    """Wait for something to become true, and return it."""
    until = time.monotonic() + within_s
    while True:
        found = true()
        if found:
            return found
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def noted(notes: Path, word: str) -> list[list[int]]:
    """The numbers after each line of the notes that begins with a word."""
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [list(map(int, line.split()[1:])) for line in lines if line.split()[0] == word]
