"""Latencies are measured in turn and reported as a median of ratios."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import count

import pytest
import torch
from torch import Tensor

from api.demo.latency import compare

QUERY = {"input_ids": torch.zeros((1, 4), dtype=torch.long)}


def _sleeper(seconds: float) -> object:
    def encode(batch: Mapping[str, Tensor]) -> Tensor:
        time.sleep(seconds)
        return batch["input_ids"]

    return encode


def test_the_ratio_is_changed_over_original_and_the_original_is_in_milliseconds() -> None:
    ratio, milliseconds = compare(_sleeper(0.03), _sleeper(0.01), QUERY)  # type: ignore[arg-type]
    assert ratio == pytest.approx(3.0, rel=0.3)
    assert milliseconds == pytest.approx(10.0, rel=0.3)


def test_a_slow_start_and_hiccups_do_not_count() -> None:
    calls = count()

    def slow_at_first(batch: Mapping[str, Tensor]) -> Tensor:
        # Half of all runs, but fewer than half of those after the warm-up.
        time.sleep(0.05 if next(calls) < 14 else 0.01)
        return batch["input_ids"]

    ratio, _ = compare(slow_at_first, _sleeper(0.01), QUERY)  # type: ignore[arg-type]
    assert ratio == pytest.approx(1.0, rel=0.3)


def test_the_two_take_turns_on_the_same_query_without_gradients() -> None:
    calls: list[str] = []

    def noting(name: str) -> object:
        def encode(batch: Mapping[str, Tensor]) -> Tensor:
            assert batch is QUERY
            assert torch.is_inference_mode_enabled()
            calls.append(name)
            return batch["input_ids"]

        return encode

    compare(noting("changed"), noting("original"), QUERY)  # type: ignore[arg-type]
    assert calls == ["changed", "original"] * (len(calls) // 2)
    assert len(calls) >= 2 * 25
    assert not torch.is_inference_mode_enabled()
