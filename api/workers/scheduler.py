"""The order of the tasks that wait for a worker, so that nobody's work keeps everybody else waiting.

- Next is a task of whoever has the fewest running; among equals, of whoever was served longest ago.
- Of one owner's tasks, the short come before the long; none waits for shorter ones longer than it takes itself. How
  long a task will take is foretold by how long the like of it took.
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
class Like:
    """What tasks have to have in common to take alike.

    Attributes:
        owner: Who asks.
        kind: The operation.
        size: Binary logarithm of the body's size in units of 64 KiB.
    """

    owner: str
    kind: str
    size: int


class Expectations:
    """What each owner's tasks of a kind and size took.

    Example:
        >>> expectations = Expectations()
        >>> task = Task("operate", "me", options={"operation": "explanation"})
        >>> expectations.of(task)
        3.0
        >>> expectations.learn(task, 1.0)
        >>> round(expectations.of(task), 2)
        2.4
    """

    def __init__(self) -> None:
        self._took_s: OrderedDict[Like, float] = OrderedDict()

    def of(self, task: Task) -> float:
        """Foretell a task.

        Returns:
            Seconds.
        """
        like = _like(task)
        guess_s = (_MANY_PLANS_S if like.kind in _SEARCHES else _USUAL_S) + len(task.body) * _PER_BYTE_S
        return self._took_s.get(like, guess_s)

    def learn(self, task: Task, took_s: float) -> None:
        """Note what a task took.

        Args:
            took_s: Seconds.
        """
        like = _like(task)
        before_s = self.of(task)
        self._took_s[like] = before_s + _LATEST * (took_s - before_s)
        self._took_s.move_to_end(like)
        if len(self._took_s) > _MOST:
            self._took_s.popitem(last=False)


def _like(task: Task) -> Like:
    kind = "job" if task.options.get("all_progress") else str(task.options.get("operation", task.name))
    return Like(task.owner, kind, (len(task.body) >> 16).bit_length())


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
