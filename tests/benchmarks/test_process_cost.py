"""What a call costs is measured for this process alone, from the start of the call."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.process_cost import seconds


def test_processor_time_counts_and_waiting_does_not() -> None:
    busy, _ = seconds(lambda: sum(index * index for index in range(10**6)))
    waiting, _ = seconds(lambda: time.sleep(0.2))
    assert waiting < 0.1
    assert busy > waiting


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell peaks")
def test_the_peak_is_that_of_the_call() -> None:
    seconds(lambda: np.ones(2**24).sum())  # 128 MiB, freed again
    _, peak = seconds(lambda: np.ones(2**22).sum())
    assert peak is not None
    assert 25 < peak < 100  # 32 MiB
