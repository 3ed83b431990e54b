"""The order of the tasks that wait for a worker, so that nobody's work keeps everybody else waiting.

- Next is a task of whoever has the fewest running; among equals, of whoever was served longest ago.
- Of one owner's tasks, the short come before the long; none waits for shorter ones longer than it takes itself. How
  long a task will take is estimated from what earlier ones of its kind took.
- Long work leaves one worker free for short work, and no key has all workers.
"""

from __future__ import annotations

import heapq
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from api.workers.task import Task

#: What takes longer is long work, for which the last free worker is not given away.
LONG_S = 1.0
#: First guesses: of what searches many plans or outlasts its request, of everything else, and of every byte that has
#: to be parsed.
_MANY_PLANS_S, _USUAL_S, _PER_BYTE_S = 3.0, 0.05, 5e-8
_SEARCHES = frozenset({"explanation", "frontier", "comparison", "job"})
#: Weight of the latest against all before.
_LATEST = 0.3
_MOST = 10_000


@dataclass(frozen=True)
class TaskKind:
    """What tasks have in common that take about as long.

    Attributes:
        owner: Who asks.
        operation: What is asked for.
        size: Binary logarithm of the body's size in units of 64 KiB.
    """

    owner: str
    operation: str
    size: int


class DurationEstimates:
    """What each owner's tasks of a kind and size took.

    Example:
        >>> estimates = DurationEstimates()
        >>> task = Task("operate", "me", options={"operation": "explanation"})
        >>> estimates.of(task)
        3.0
        >>> estimates.learn(task, 1.0)
        >>> round(estimates.of(task), 2)
        2.4
    """

    def __init__(self) -> None:
        self._took_s: OrderedDict[TaskKind, float] = OrderedDict()

    def of(self, task: Task) -> float:
        """Return the estimated seconds of a task."""
        kind = _kind_of(task)
        guess_s = (_MANY_PLANS_S if kind.operation in _SEARCHES else _USUAL_S) + len(task.body) * _PER_BYTE_S
        return self._took_s.get(kind, guess_s)

    def learn(self, task: Task, took_s: float) -> None:
        """Note what a task took."""
        kind = _kind_of(task)
        before_s = self.of(task)
        self._took_s[kind] = before_s + _LATEST * (took_s - before_s)
        self._took_s.move_to_end(kind)
        if len(self._took_s) > _MOST:
            self._took_s.popitem(last=False)


def _kind_of(task: Task) -> TaskKind:
    operation = "job" if task.options.get("all_progress") else str(task.options.get("operation", task.name))
    return TaskKind(task.owner, operation, (len(task.body) >> 16).bit_length())


class QueueFullError(Exception):
    """Too many tasks of one owner wait already."""


@dataclass(eq=False)
class QueuedTask:
    """A task's place in the queue, then its time with a worker.

    Attributes:
        task: The task.
        is_limited: Whether its owner may not have all workers.
        due: Its place among its owner's tasks: the lowest is first.
        is_long: Whether it is expected to be long work.
        began: When a worker got it; None before.
        is_over: Whether it is over.
    """

    task: Task
    is_limited: bool
    due: float
    is_long: bool
    began: float | None = None
    is_over: bool = False


@dataclass
class _Owner:
    waiting: int = 0
    running: int = 0
    served: int = 0
    heaps: tuple[list[tuple[float, int, QueuedTask]], ...] = field(default_factory=lambda: ([], []))


class TaskQueue:
    """Tasks that wait for a worker, and those that have one.

    Args:
        most_waiting: Tasks of one owner that may wait at a time.
        clock: Tells seconds, and never goes back.
    """

    def __init__(self, most_waiting: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_waiting = most_waiting
        self._clock = clock
        self._estimates = DurationEstimates()
        self._owners: dict[str, _Owner] = {}
        self._running: set[QueuedTask] = set()
        self._number = count(1)

    def put(self, task: Task, *, is_limited: bool = False) -> QueuedTask:
        """Add a task.

        Args:
            is_limited: Whether its owner may not have all workers.

        Returns:
            Its entry.

        Raises:
            QueueFullError: Too many of the same owner wait already.
        """
        owner = self._owners.setdefault(task.owner, _Owner())
        if owner.waiting >= self._most_waiting:
            raise QueueFullError(f"{self._most_waiting} tasks of one owner wait already")
        expected_s = self._estimates.of(task)
        entry = QueuedTask(task, is_limited, self._clock() + expected_s, expected_s > LONG_S)
        heapq.heappush(owner.heaps[entry.is_long], (entry.due, next(self._number), entry))
        owner.waiting += 1
        return entry

    def take(self, most_long: int, most_each: int) -> QueuedTask | None:
        """Take the next task out of the queue.

        Args:
            most_long: How many workers may have long work at a time.
            most_each: How many workers an owner who is limited may have.

        Returns:
            Its entry; None where every task has to wait, or none does.
        """
        now = self._clock()
        long_ones = sum(entry.is_long or now - (entry.began or now) > LONG_S for entry in self._running)
        allowed = (False, True) if long_ones < most_long else (False,)
        found: list[tuple[int, int, int, _Owner, QueuedTask]] = []
        for number, owner in enumerate(self._owners.values()):
            entry = _first(owner, allowed)
            if entry is not None and (owner.running < most_each or not entry.is_limited):
                found.append((owner.running, owner.served, number, owner, entry))
        if not found:
            return None
        *_, owner, entry = min(found, key=lambda each: each[:3])
        heapq.heappop(owner.heaps[entry.is_long])
        owner.waiting -= 1
        owner.running += 1
        owner.served = next(self._number)
        entry.began = now
        self._running.add(entry)
        return entry

    def finish(self, entry: QueuedTask) -> None:
        """Note that a task has ended, or was given up before it began."""
        entry.is_over = True
        owner = self._owners[entry.task.owner]
        if entry.began is None:
            owner.waiting -= 1  # its place in the heap goes when it is met
        else:
            self._running.discard(entry)
            owner.running -= 1
            self._estimates.learn(entry.task, self._clock() - entry.began)
        if owner.waiting == owner.running == 0:
            del self._owners[entry.task.owner]


def _first(owner: _Owner, allowed: tuple[bool, ...]) -> QueuedTask | None:
    heads = []
    for kind in allowed:
        heap = owner.heaps[kind]
        while heap and heap[0][2].is_over:
            heapq.heappop(heap)
        if heap:
            heads.append(heap[0])
    return min(heads)[2] if heads else None
