"""The serial engine: order, progress, and what pieces share."""

from __future__ import annotations

import numpy as np

from sensitivity.study import Study, once
from sensitivity.tasks import Key, serial
from tests.sensitivity.studies import Blocks, make_study, squares


def counted(study: Study, key: Key) -> np.ndarray:
    calls: list[Key] = once(study, "calls", list)
    calls.append(key)
    return np.array([float(key[0]), len(calls)])


def test_serial_keeps_the_order_reports_each_piece_and_shares_only_within_a_stage() -> None:
    seen: list[tuple[str, int, int]] = []
    study = make_study(Blocks(), [], squares, progress=lambda *step: seen.append(step))
    for _ in range(2):
        pieces = serial(study, "count", [("3",), ("1",)], counted)
        assert [piece.tolist() for piece in pieces] == [[3, 1], [1, 2]]
    assert seen == [("count", 1, 2), ("count", 2, 2)] * 2
    assert study.memo == {}
