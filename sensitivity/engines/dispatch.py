"""An engine that sends pieces to an executor and computes a piece again when its worker died."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from allocator import BitallocError
from allocator.knapsack.problem import FloatArray
from sensitivity.engines.pickling import PackedStage, compute, pack
from sensitivity.engines.recipe import Recipe
from sensitivity.study.study import Study
from sensitivity.study.tasks import Keep, Key, Measure, forget


class WorkerLostError(BitallocError, RuntimeError):
    """Workers keep dying over a piece: too little memory, most often."""


@dataclass(frozen=True)
class Site:
    """An executor, and how it says that a worker died.

    Attributes:
        executor: Runs the pieces.
        lost: What a future raises when its worker died, besides ``BrokenExecutor``, after which the executor is opened
            again.
    """

    executor: Executor
    lost: tuple[type[Exception], ...] = ()


@dataclass
class Dispatch:
    """An engine on an executor; from :func:`dispatching`.

    Attributes:
        recipe: How workers load model, data and loss.
        open: Opens the executor, and opens it again when it is broken.
        workers: Number of workers. Twice as many pieces are sent at a time, so that a worker never waits.
        retries: How often a piece may take a worker down before it is given up.
        stack: Closes the executor.
        site: The executor that is open.
    """

    recipe: Recipe
    open: Callable[[], AbstractContextManager[Site]]
    workers: int
    retries: int
    stack: ExitStack = field(default_factory=ExitStack)
    site: Site | None = None

    def __call__(
        self, study: Study, stage: str, keys: Sequence[Key], measure: Measure, keep: Keep = forget
    ) -> Sequence[FloatArray]:
        """Compute pieces elsewhere.

        Args:
            stage: Name of the stage, for progress reports.
            keys: One per piece.
            measure: Computes a piece; a function of a module, or a partial of one.
            keep: Told every piece as soon as it is there.

        Returns:
            The pieces, in the order of the keys.
        """
        if not keys:
            return []
        packed = pack(self.recipe, study, measure)
        pieces: dict[int, FloatArray] = {}
        for index, piece in self._computed(packed, stage, keys):
            pieces[index] = piece
            keep(keys[index], piece)
            study.progress(stage, len(pieces), len(keys))
        return [pieces[index] for index in range(len(keys))]

    def _computed(
        self, packed: PackedStage, stage: str, keys: Sequence[Key]
    ) -> Iterator[tuple[int, FloatArray]]:
        waiting = deque(range(len(keys)))
        running: dict[Future[FloatArray | Exception], int] = {}
        deaths: Counter[int] = Counter()
        while waiting or running:
            # A piece that was there when a worker died is sent alone: if it happens again, it was that piece.
            suspect = bool(waiting and deaths[waiting[0]]) or any(deaths[index] for index in running.values())
            while waiting and len(running) < (1 if suspect else 2 * self.workers):
                index = waiting.popleft()
                running[self._submitted(packed, keys[index])] = index
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            lost = []
            for future in done:
                index = running.pop(future)
                answer = self._answer(future)
                if answer is None:
                    lost.append(index)
                elif isinstance(answer, Exception):
                    raise answer
                else:
                    yield index, answer
            for index in sorted(lost, reverse=True):
                deaths[index] += 1
                waiting.appendleft(index)
                if deaths[index] > self.retries:
                    raise WorkerLostError(
                        f"stage {stage!r}, piece {', '.join(keys[index])}: a worker died {deaths[index]} times while "
                        "computing it; is there enough memory for a copy of the model per worker, and is what your "
                        "script does guarded by `if __name__ == '__main__'`?"
                    )

    def _submitted(self, packed: PackedStage, key: Key) -> Future[FloatArray | Exception]:
        if self.site is None:
            self.site = self.stack.enter_context(self.open())
        try:
            return self.site.executor.submit(compute, packed, key)
        except BrokenExecutor as error:
            failed: Future[FloatArray | Exception] = Future()
            failed.set_exception(error)
            return failed

    def _answer(self, future: Future[FloatArray | Exception]) -> FloatArray | Exception | None:
        # None where the worker died.
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, BrokenExecutor):
            self.stack.close()
            self.site = None
        elif self.site is None or not isinstance(error, self.site.lost):
            raise error
        return None


@contextmanager
def dispatching(
    recipe: Recipe, open: Callable[[], AbstractContextManager[Site]], workers: int, retries: int = 3
) -> Iterator[Dispatch]:
    """Have an engine on an executor for a while.

    Args:
        recipe: How workers load model, data and loss; the study must come from it too.
        retries: How often a piece may take a worker down before it is given up.

    Yields:
        The engine; the executor is closed at the end.
    """
    with ExitStack() as stack:
        yield Dispatch(recipe, open, workers, retries, stack)
