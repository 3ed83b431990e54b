"""Latency of one query, always beside full precision in the same loop: machines drift, ratios hold."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from sensitivity.pretrained.retrieval import Encode

_WARM_UP, _RUNS = 3, 25


def compare(changed: Encode, original: Encode, query: Mapping[str, Tensor]) -> tuple[float, float]:
    """Time two encoders in turn.

    Args:
        changed: The quantized encoder.
        original: The same in full precision, on the same runtime.
        query: A batch of one text.

    Returns:
        Median over runs of (changed / original), and the original's median in milliseconds.
    """
    pairs = []
    with torch.inference_mode():
        for _ in range(_WARM_UP + _RUNS):
            pairs.append((_seconds(changed, query), _seconds(original, query)))
    timed = pairs[_WARM_UP:]
    ratio = statistics.median(first / second for first, second in timed)
    return ratio, statistics.median(second for _, second in timed) * 1e3


def _seconds(encode: Encode, query: Mapping[str, Tensor]) -> float:
    start = time.perf_counter()
    encode(query)
    return time.perf_counter() - start
