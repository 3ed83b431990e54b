"""How long ONNX files take, measured against each other."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from allocator.contract.errors import require


@dataclass(frozen=True)
class Latency:
    """Time of one run.

    Attributes:
        median_us: Median, in microseconds.
        quartiles_us: First and third quartile, in microseconds.
    """

    median_us: float
    quartiles_us: tuple[float, float]


def measured_latencies(
    paths: Sequence[str | Path],
    feeds: Mapping[str, NDArray[np.generic]],
    *,
    rounds: int = 30,
    threads: int = 1,
) -> list[Latency]:
    """Time files in turns, so that whatever else the machine does falls on all of them alike.

    Args:
        paths: ONNX files that take the same inputs.
        feeds: Inputs by name.
        rounds: Runs of each file, after one to warm up.
        threads: Threads of one run.

    Returns:
        One per file; compare them with each other, not with those of another call.

    Raises:
        MissingPackageError: onnxruntime is not installed.
    """
    runtime = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    sessions = [
        runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        for path in paths
    ]
    taken = np.zeros((rounds + 1, len(sessions)))
    for row in taken:
        for column, session in enumerate(sessions):
            started = time.perf_counter()
            session.run(None, dict(feeds))
            row[column] = time.perf_counter() - started
    low, middle, high = np.quantile(taken[1:] * 1e6, [0.25, 0.5, 0.75], axis=0)
    return [Latency(float(m), (float(a), float(b))) for a, m, b in zip(low, middle, high, strict=True)]


def times_in_turns_us(
    paths: Sequence[str | Path],
    feeds: Mapping[str, NDArray[np.generic]],
    *,
    turns: int = 5,
    rounds: int = 20,
    threads: int = 1,
) -> list[float]:
    """Time files in turns of several runs each, so that weights are as warm as in use, whatever the others are.

    Args:
        paths: ONNX files that take the same inputs.
        feeds: Inputs by name.
        rounds: Runs of a turn, after one to warm up.

    Returns:
        Median microseconds, one per file.

    Raises:
        MissingPackageError: onnxruntime is not installed.
    """
    taken = [
        [measured_latencies([path], feeds, rounds=rounds, threads=threads)[0].median_us for path in paths]
        for _ in range(turns)
    ]
    found: list[float] = np.median(taken, axis=0).tolist()
    return found
