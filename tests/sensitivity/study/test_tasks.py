"""The serial engine: order, progress, and what pieces share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from allocator import CostTable, Fault, InvalidInputError
from allocator.knapsack.problem import FloatArray
from sensitivity import profile_model
from sensitivity.study.study import Study, once
from sensitivity.study.tasks import Key, begin, serial
from tests.sensitivity.resumed import BATCHES
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


def test_serial_tells_every_piece_as_soon_as_it_is_there() -> None:
    kept: list[tuple[Key, list[float]]] = []
    steps: list[int] = []

    def keep(key: Key, piece: FloatArray) -> None:
        assert len(steps) == len(kept)  # before the report of the same piece
        kept.append((key, piece.tolist()))

    study = make_study(Blocks(), [], squares, progress=lambda *step: steps.append(step[1]))
    serial(study, "count", [("3",), ("1",)], counted, keep)
    assert kept == [(("3",), [3, 1]), (("1",), [1, 2])]


def test_work_begins_without_a_piece() -> None:
    asked: list[tuple[str, int]] = []

    def engine(study: Study, stage: str, keys: object, measure: object, *_: object) -> list[FloatArray]:
        asked.append((stage, len(keys)))  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match="no piece of Blocks was asked for"):
            measure(study, ("a",))  # type: ignore[operator]
        return []

    begin(replace(make_study(Blocks(), [], squares), engine=engine))
    assert asked == [("begin", 0)]


def test_an_engine_that_cannot_work_says_so_before_anything_is_computed() -> None:
    def engine(*_: object) -> list[FloatArray]:
        raise InvalidInputError(Fault("/engine", "is out of order"))

    def never(study: Study) -> CostTable:
        raise AssertionError(study)

    with pytest.raises(InvalidInputError, match="/engine: is out of order"):
        profile_model(Blocks(), BATCHES, squares, ["int4"], {"never": never}, engine=engine)
