"""How long a task will take, by how long the like of it took."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

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
        """Return how many seconds a task is expected to take."""
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
    kind = "job" if task.options.get("all_news") else str(task.options.get("operation", task.name))
    return Like(task.owner, kind, (len(task.body) >> 16).bit_length())
