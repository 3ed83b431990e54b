"""A recipe in, Profile out: on one process or many, remembered in a journal or not, with the same bits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from allocator import Fault, InvalidInputError, Profile
from sensitivity.engines import EXECUTORS, Opener, Site, dispatching
from sensitivity.engines.journal import Journal
from sensitivity.engines.recipe import Recipe, load, threads
from sensitivity.profiling.memory import free_bytes, require_memory, size_bytes
from sensitivity.profiling.profile_model import profile_model
from sensitivity.study.study import Estimator
from sensitivity.study.tasks import Engine, serial


def profile_recipe(
    recipe: Recipe,
    formats: Sequence[str],
    estimators: Sequence[str] | Mapping[str, Estimator],
    *,
    executor: str | Executor | Opener = "serial",
    workers: int | None = None,
    retries: int = 3,
    journal: Path | None = None,
    **options: Any,  # noqa: ANN401
) -> Profile:
    """Measure what each format would cost and spend in each layer, with more than one process.

    The profile is bit for bit the same for any executor and any number of workers, on machines whose CPUs have the same
    instructions.

    Args:
        recipe: How to load model, data and loss; every worker does so once.
        estimators: Names, or table name → estimator with its options bound. Those that cut their work into pieces are
            spread over the workers; the others run here.
        executor: ``serial``, ``process``, ``ray``, ``dask``, an executor of yours, or a function that opens one again
            after a loss, such as ``partial(sensitivity.engines.ray.opened, num_gpus=1)``.
        workers: Number of workers; one per CPU when absent.
        retries: How often a piece may take a worker down before it is given up.
        journal: Remember finished pieces in this file, and do not compute again what is in it.
        **options: Of :func:`~sensitivity.profiling.profile_model.profile_model`.

    Returns:
        The profile.

    Raises:
        InvalidInputError: The recipe, an option or the journal cannot be used, or the copies of the model do not
            fit into the memory of this machine.
    """
    count = workers or os.cpu_count() or 1
    if count < 1:
        raise InvalidInputError(Fault("/workers", f"expected at least 1, got {workers}"))
    with threads(recipe.threads), _engine(recipe, executor, count, retries) as engine:
        model, batches, loss_fn = load(recipe)
        if executor == "process":
            _require_room(model, count)
        kept = engine if journal is None else Journal(journal, engine)
        return profile_model(model, batches, loss_fn, formats, estimators, engine=kept, **options)


def _require_room(model: nn.Module, workers: int) -> None:
    needed = {f"{workers} copies of the model": workers * size_bytes(model)}
    require_memory(needed, free_bytes(), "/workers", "use fewer workers, or several machines")


@contextmanager
def _engine(
    recipe: Recipe, executor: str | Executor | Opener, workers: int, retries: int
) -> Iterator[Engine]:
    if executor == "serial":
        yield serial
        return
    with dispatching(recipe, _opener(executor, workers), workers, retries) as engine:
        yield engine


def _opener(executor: str | Executor | Opener, workers: int) -> Callable[[], AbstractContextManager[Site]]:
    if isinstance(executor, Executor):
        return lambda: nullcontext(Site(executor))
    opened = EXECUTORS.find(executor) if isinstance(executor, str) else executor
    return partial(opened, workers)
