"""Who is next: fair between owners, short before long, and nobody waits for ever."""

from __future__ import annotations

import pytest

from api.workers.scheduler import DurationEstimates, QueuedTask, QueueFullError, TaskQueue
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
def queue(clock: Clock) -> TaskQueue:
    return TaskQueue(1000, clock)


def plan(owner: str, body: bytes = b"") -> Task:
    return Task("allocate", owner, body)


def explanation(owner: str) -> Task:
    return Task("operate", owner, options={"operation": "explanation"})


def drawn(queue: TaskQueue, most_long: int = 100, most_each: int = 100) -> list[QueuedTask]:
    entries = []
    while (entry := queue.take(most_long, most_each)) is not None:
        entries.append(entry)
    return entries


def test_an_empty_queue_has_no_next(queue: TaskQueue) -> None:
    assert queue.take(3, 10) is None


def test_one_owners_equal_tasks_come_in_their_order(queue: TaskQueue, clock: Clock) -> None:
    entries = []
    for _ in range(5):
        entries.append(queue.put(plan("a")))
        clock.now += 0.001
    assert drawn(queue) == entries


def test_owners_take_turns_however_many_tasks_one_has(queue: TaskQueue) -> None:
    for owner in "aaaaaabb":
        queue.put(plan(owner))
    assert [entry.task.owner for entry in drawn(queue)] == list("ababaaaa")


def test_who_has_fewer_running_is_next_though_it_came_later(queue: TaskQueue) -> None:
    for _ in range(4):
        queue.put(plan("a"))
    assert [queue.take(10, 10).task.owner for _ in range(2)] == ["a", "a"]  # type: ignore[union-attr]
    queue.put(plan("b"))
    assert queue.take(10, 10).task.owner == "b"  # type: ignore[union-attr]


def test_short_work_comes_before_long(queue: TaskQueue) -> None:
    queue.put(explanation("a"))
    large = queue.put(plan("a", bytes(8_000_000)))
    small = queue.put(plan("a"))
    assert drawn(queue)[:2] == [small, large]


def test_nobody_waits_for_shorter_work_longer_than_its_own_takes(queue: TaskQueue, clock: Clock) -> None:
    long = queue.put(explanation("a"))
    served = []
    for _ in range(100):
        queue.put(plan("a"))
        entry = queue.take(10, 10)
        assert entry is not None
        served.append(entry)
        queue.finish(entry)
        clock.now += 0.1
        if entry is long:
            break
    assert served[-1] is long
    assert 2.5 < clock.now - 100.0 < 3.5  # an explanation is thought to take 3 s


def test_long_work_leaves_workers_to_short_work(queue: TaskQueue) -> None:
    for owner in "abcdef":
        queue.put(explanation(owner))
    entries = drawn(queue, 2)
    assert len(entries) == 2
    short = queue.put(plan("a"))
    assert queue.take(2, 10) is short
    queue.finish(entries[0])
    assert queue.take(2, 10) is not None


def test_what_was_thought_short_and_is_not_counts_as_long(queue: TaskQueue, clock: Clock) -> None:
    for _ in range(2):
        queue.put(plan("a"))
    assert len(drawn(queue, 2)) == 2
    queue.put(explanation("b"))
    clock.now += 2.0
    assert queue.take(2, 10) is None
    queue.put(plan("b"))
    assert queue.take(2, 10) is not None


def test_who_is_limited_has_no_more_workers_than_that(queue: TaskQueue) -> None:
    for owner in ("key", "key", "key", "nobody", "nobody", "nobody"):
        queue.put(plan(owner), is_limited=owner == "key")
    entries = drawn(queue, most_each=2)
    assert sorted(entry.task.owner for entry in entries) == ["key", "key", "nobody", "nobody", "nobody"]
    queue.finish(next(entry for entry in entries if entry.task.owner == "key"))
    assert len(drawn(queue, most_each=2)) == 1


def test_who_gives_up_is_passed_over(queue: TaskQueue) -> None:
    first, second = queue.put(plan("a")), queue.put(plan("a"))
    queue.finish(first)
    assert drawn(queue) == [second]


def test_too_many_of_one_owner_are_refused_and_nobody_else(clock: Clock) -> None:
    queue = TaskQueue(2, clock)
    entries = [queue.put(plan("a")) for _ in range(2)]
    with pytest.raises(QueueFullError, match="2 tasks of one owner wait already"):
        queue.put(plan("a"))
    queue.put(plan("b"))
    queue.finish(entries[0])
    queue.put(plan("a"))


def test_owners_that_are_gone_are_forgotten(queue: TaskQueue) -> None:
    for number in range(100):
        queue.put(plan(str(number)))
    for entry in drawn(queue):
        queue.finish(entry)
    assert queue._owners == {}


def test_what_a_kind_of_task_took_is_learnt_for_each_owner() -> None:
    estimates = DurationEstimates()
    for _ in range(20):
        estimates.learn(plan("a"), 9.0)
    assert estimates.of(plan("a")) == pytest.approx(9.0, rel=0.01)
    assert estimates.of(plan("b")) < 1.0
    assert estimates.of(plan("a", bytes(10_000_000))) < 1.0  # another size is another thing
    for _ in range(30):
        estimates.learn(plan("a"), 0.1)
    assert estimates.of(plan("a")) == pytest.approx(0.1, rel=0.01)


def test_no_more_is_learnt_than_can_be_kept() -> None:
    estimates = DurationEstimates()
    for number in range(20_000):
        estimates.learn(plan(str(number)), 9.0)
    assert len(estimates._took_s) == 10_000
