"""The waiting line in front of the workers: who is next, so that nobody's work keeps everybody else waiting.

- Next is a task of whoever has the fewest running; among equals, of whoever was served longest ago.
- Of one owner's tasks, the short come before the long; none waits for shorter ones longer than it takes itself.
- Long work leaves one worker free for short work, and no key has all workers.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from api.workers.expectations import LONG_S, Expectations
from api.workers.task import Task


class LineFullError(Exception):
    """Too many tasks of one owner wait already."""


@dataclass(eq=False)
class Turn:
    """A task's place in the line, then its time with a worker.

    Attributes:
        task: The task.
        is_limited: Whether its owner may not have all workers.
        due: Its place among its owner's tasks: the lowest is first.
        is_long: Whether it is expected to be long work.
        began: When a worker got it; None before.
        has_left: Whether it is over.
    """

    task: Task
    is_limited: bool
    due: float
    is_long: bool
    began: float | None = None
    has_left: bool = False


@dataclass
class _Owner:
    waiting: int = 0
    running: int = 0
    served: int = 0
    heaps: tuple[list[tuple[float, int, Turn]], ...] = field(default_factory=lambda: ([], []))


class Line:
    """Tasks that wait for a worker, and those that have one.

    Args:
        most_waiting: Tasks of one owner that may wait at a time.
        clock: Tells seconds, and never goes back.
    """

    def __init__(self, most_waiting: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_waiting = most_waiting
        self._clock = clock
        self._expectations = Expectations()
        self._owners: dict[str, _Owner] = {}
        self._running: set[Turn] = set()
        self._number = count(1)

    def join(self, task: Task, *, is_limited: bool = False) -> Turn:
        """Take a place in the line.

        Args:
            is_limited: Whether its owner may not have all workers.

        Returns:
            The place.

        Raises:
            LineFullError: Too many of the same owner wait already.
        """
        owner = self._owners.setdefault(task.owner, _Owner())
        if owner.waiting >= self._most_waiting:
            raise LineFullError(f"{self._most_waiting} tasks of one owner wait already")
        expected_s = self._expectations.of(task)
        turn = Turn(task, is_limited, self._clock() + expected_s, expected_s > LONG_S)
        heapq.heappush(owner.heaps[turn.is_long], (turn.due, next(self._number), turn))
        owner.waiting += 1
        return turn

    def next(self, most_long: int, most_each: int) -> Turn | None:
        """Give the turn to whoever is next.

        Args:
            most_long: How many workers may have long work at a time.
            most_each: How many workers an owner who is limited may have.

        Returns:
            Who; None where everybody has to wait, or nobody does.
        """
        now = self._clock()
        long_ones = sum(turn.is_long or now - (turn.began or now) > LONG_S for turn in self._running)
        allowed = (False, True) if long_ones < most_long else (False,)
        found: list[tuple[int, int, int, _Owner, Turn]] = []
        for number, owner in enumerate(self._owners.values()):
            turn = _first(owner, allowed)
            if turn is not None and (owner.running < most_each or not turn.is_limited):
                found.append((owner.running, owner.served, number, owner, turn))
        if not found:
            return None
        *_, owner, turn = min(found, key=lambda each: each[:3])
        heapq.heappop(owner.heaps[turn.is_long])
        owner.waiting -= 1
        owner.running += 1
        owner.served = next(self._number)
        turn.began = now
        self._running.add(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """Give a place up, or end a turn."""
        turn.has_left = True
        owner = self._owners[turn.task.owner]
        if turn.began is None:
            owner.waiting -= 1  # its place in the heap goes when it is met
        else:
            self._running.discard(turn)
            owner.running -= 1
            self._expectations.learn(turn.task, self._clock() - turn.began)
        if owner.waiting == owner.running == 0:
            del self._owners[turn.task.owner]


def _first(owner: _Owner, allowed: tuple[bool, ...]) -> Turn | None:
    heads = []
    for kind in allowed:
        heap = owner.heaps[kind]
        while heap and heap[0][2].has_left:
            heapq.heappop(heap)
        if heap:
            heads.append(heap[0])
    return min(heads)[2] if heads else None
