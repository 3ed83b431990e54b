"""Questions and answers go through files unharmed, and an answer that does not fit its question is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from allocator import InvalidInputError
from benchmarks.peers.question import Answer, Question, read_answer, read_question, reply, write_question

QUESTION = Question(("int4", "int8"), (5.0, 6.0), ("up", "down"), (("a query", "a document"),))
PLANS = ({"up": "int4", "down": "int4"}, {"up": "int8", "down": "int4"})


def _answered(plans: object, folder: Path) -> Path:
    path = folder / "answer.json"
    path.write_text(json.dumps(asdict(Answer({"method": plans}))))  # type: ignore[dict-item]
    return path


def test_a_question_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_question(QUESTION, tmp_path / "question.json")
    assert read_question(tmp_path / "question.json") == QUESTION


def test_a_program_replies_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "question.json", tmp_path / "answer.json"
    write_question(QUESTION, source)
    monkeypatch.setattr(sys, "argv", ["peer", str(source), str(target)])
    scores = {"method": {"up": {"int4": 0.5}}}
    reply("pytest", lambda question: Answer({"method": PLANS[: len(question.asked)]}, scores))
    found = read_answer(target, QUESTION)
    assert list(found.plans["method"]) == list(PLANS)
    assert found.scores == scores
    assert found.version == pytest.__version__
    assert found.seconds > 0


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (PLANS[0] | {"wp": "int4"}, r"/plans/method/1/wp: unknown layer 'wp'"),
        ({"up": "int4"}, r"/plans/method/1/down: the peer left this layer out"),
        (PLANS[0] | {"up": "int3"}, r"/plans/method/1/up: unknown format 'int3'"),
    ],
)
def test_a_plan_for_something_else_is_refused(plan: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_answer(_answered([PLANS[0], plan], tmp_path), QUESTION)


def test_a_missing_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="expected a plan for each of 1 budgets, got 2"):
        read_answer(_answered(PLANS, tmp_path), replace(QUESTION, asked=(5.0,)))
