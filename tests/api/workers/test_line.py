"""Who is next: fair between owners, short before long, and nobody waits for ever."""

from __future__ import annotations

import pytest

from api.workers.scheduler import Expectations, Line, LineFullError, Turn
from api.workers.task import Task


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line(clock: Clock) -> Line:
    return Line(1000, clock)


def plan(owner: str, body: bytes = b"") -> Task:
    return Task("allocate", owner, body)


def explanation(owner: str) -> Task:
    return Task("operate", owner, options={"operation": "explanation"})


def drawn(line: Line, most_long: int = 100, most_each: int = 100) -> list[Turn]:
    turns = []
    while (turn := line.next(most_long, most_each)) is not None:
        turns.append(turn)
    return turns


def test_an_empty_line_has_no_next(line: Line) -> None:
    assert line.next(3, 10) is None


def test_one_owners_equal_tasks_come_in_their_order(line: Line, clock: Clock) -> None:
    turns = []
    for _ in range(5):
        turns.append(line.join(plan("a")))
        clock.now += 0.001
    assert drawn(line) == turns


def test_owners_take_turns_however_many_tasks_one_has(line: Line) -> None:
    for owner in "aaaaaabb":
        line.join(plan(owner))
    assert [turn.task.owner for turn in drawn(line)] == list("ababaaaa")


def test_who_has_fewer_running_is_next_though_it_came_later(line: Line) -> None:
    for _ in range(4):
        line.join(plan("a"))
    assert [line.next(10, 10).task.owner for _ in range(2)] == ["a", "a"]  # type: ignore[union-attr]
    line.join(plan("b"))
    assert line.next(10, 10).task.owner == "b"  # type: ignore[union-attr]


def test_short_work_comes_before_long(line: Line) -> None:
    line.join(explanation("a"))
    large = line.join(plan("a", bytes(8_000_000)))
    small = line.join(plan("a"))
    assert drawn(line)[:2] == [small, large]


def test_nobody_waits_for_shorter_work_longer_than_its_own_takes(line: Line, clock: Clock) -> None:
    long = line.join(explanation("a"))
    served = []
    for _ in range(100):
        line.join(plan("a"))
        turn = line.next(10, 10)
        assert turn is not None
        served.append(turn)
        line.leave(turn)
        clock.now += 0.1
        if turn is long:
            break
    assert served[-1] is long
    assert 2.5 < clock.now - 100.0 < 3.5  # an explanation is thought to take 3 s


def test_long_work_leaves_workers_to_short_work(line: Line) -> None:
    for owner in "abcdef":
        line.join(explanation(owner))
    turns = drawn(line, 2)
    assert len(turns) == 2
    short = line.join(plan("a"))
    assert line.next(2, 10) is short
    line.leave(turns[0])
    assert line.next(2, 10) is not None


def test_what_was_thought_short_and_is_not_counts_as_long(line: Line, clock: Clock) -> None:
    for _ in range(2):
        line.join(plan("a"))
    assert len(drawn(line, 2)) == 2
    line.join(explanation("b"))
    clock.now += 2.0
    assert line.next(2, 10) is None
    line.join(plan("b"))
    assert line.next(2, 10) is not None


def test_who_is_limited_has_no_more_workers_than_that(line: Line) -> None:
    for owner in ("key", "key", "key", "nobody", "nobody", "nobody"):
        line.join(plan(owner), is_limited=owner == "key")
    turns = drawn(line, most_each=2)
    assert sorted(turn.task.owner for turn in turns) == ["key", "key", "nobody", "nobody", "nobody"]
    line.leave(next(turn for turn in turns if turn.task.owner == "key"))
    assert len(drawn(line, most_each=2)) == 1


def test_who_gives_up_is_passed_over(line: Line) -> None:
    first, second = line.join(plan("a")), line.join(plan("a"))
    line.leave(first)
    assert drawn(line) == [second]


def test_too_many_of_one_owner_are_refused_and_nobody_else(clock: Clock) -> None:
    line = Line(2, clock)
    turns = [line.join(plan("a")) for _ in range(2)]
    with pytest.raises(LineFullError, match="2 tasks of one owner wait already"):
        line.join(plan("a"))
    line.join(plan("b"))
    line.leave(turns[0])
    line.join(plan("a"))


def test_owners_that_are_gone_are_forgotten(line: Line) -> None:
    for number in range(100):
        line.join(plan(str(number)))
    for turn in drawn(line):
        line.leave(turn)
    assert line._owners == {}


def test_what_a_kind_of_task_took_is_learnt_for_each_owner() -> None:
    expectations = Expectations()
    for _ in range(20):
        expectations.learn(plan("a"), 9.0)
    assert expectations.of(plan("a")) == pytest.approx(9.0, rel=0.01)
    assert expectations.of(plan("b")) < 1.0
    assert expectations.of(plan("a", bytes(10_000_000))) < 1.0  # another size is another thing
    for _ in range(30):
        expectations.learn(plan("a"), 0.1)
    assert expectations.of(plan("a")) == pytest.approx(0.1, rel=0.01)


def test_no_more_is_learnt_than_can_be_kept() -> None:
    expectations = Expectations()
    for number in range(20_000):
        expectations.learn(plan(str(number)), 9.0)
    assert len(expectations._took_s) == 10_000
