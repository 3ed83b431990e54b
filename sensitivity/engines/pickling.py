"""What a worker is sent: a study and a function by value, but everything that a recipe gives by name.

Modules, parameters, buffers, batches and the loss are written as references; the worker fills in its own.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Any

import torch
from torch import nn

from allocator import Fault, InvalidInputError
from allocator.knapsack.problem import FloatArray
from sensitivity.engines.recipe import Loaded, Recipe, digest_of, loaded_once, text_of
from sensitivity.study.study import Study, silent
from sensitivity.study.tasks import Key, Measure, serial

Reference = tuple[str, str]
_LOCK = Lock()  # pieces change the model while they compute; workers with several threads take turns


@dataclass(frozen=True)
class PackedStage:
    """One stage of a study, ready to be sent.

    Attributes:
        recipe: How the worker gets model, data and loss, as text.
        content: Digest of what the recipe gave here.
        body: (study, measure), pickled with references.
        threads: Threads to compute with.
    """

    recipe: str
    content: str
    body: bytes
    threads: int


def pack(recipe: Recipe, study: Study, measure: Measure) -> PackedStage:
    """Prepare a stage for sending.

    Args:
        recipe: What the study's model, batches and loss were loaded with.

    Returns:
        The packed stage.

    Raises:
        InvalidInputError: The function, or what is bound to it, cannot be sent to another process.
    """
    content = Loaded(study.model, tuple(study.batches), study.loss_fn)
    file = io.BytesIO()
    bare = replace(study, progress=silent, engine=serial, memo={})
    try:
        _Pickler(file, content).dump((bare, measure))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        detail = f"cannot be sent to other processes: {error}; use functions of a module and partials of them"
        raise InvalidInputError(Fault("/estimators", detail)) from error
    return PackedStage(text_of(recipe), digest_of(content), file.getvalue(), recipe.threads)


def compute(packed: PackedStage, key: Key) -> FloatArray | Exception:
    """Compute one piece in a worker.

    Returns:
        The piece; or what it raised, so that what a future raises is always about the worker.
    """
    with _LOCK:
        torch.set_num_threads(packed.threads)  # per thread in OpenMP, so once per process would not do
        try:
            study, measure = _unpacked(packed)
            return measure(study, key)
        except Exception as error:
            return error


@lru_cache(maxsize=1)
def _unpacked(packed: PackedStage) -> tuple[Study, Measure]:
    loaded, content = loaded_once(packed.recipe)
    if content != packed.content:
        detail = (
            "gives another model or other data in a worker than here; seed what is random, and make sure that every "
            "machine reads the same files"
        )
        raise InvalidInputError(Fault("/recipe", detail))
    study, measure = _Unpickler(io.BytesIO(packed.body), loaded).load()
    return study, measure


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, content: Loaded) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._names = {id(value): name for name, value in _named(content).items()}

    def persistent_id(self, obj: object) -> Reference | None:
        return self._names.get(id(obj))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, content: Loaded) -> None:
        super().__init__(file)
        self._values = _named(content)

    def persistent_load(self, pid: Any) -> object:  # noqa: ANN401
        return self._values[pid]


def _named(content: Loaded) -> dict[Reference, object]:
    model = content.model
    named: dict[Reference, object] = {
        ("loss_fn", ""): content.loss_fn,
        ("batches", ""): content.batches,
    }
    named |= {("batch", str(index)): batch for index, batch in enumerate(content.batches) if _big(batch)}
    named |= {("module", name): module for name, module in model.named_modules()}
    named |= {("parameter", name): value for name, value in model.named_parameters()}
    named |= {("buffer", name): value for name, value in model.named_buffers()}
    return named


def _big(batch: object) -> bool:
    # Small constants are shared by unrelated code, so that their identity means nothing.
    return isinstance(batch, (torch.Tensor, nn.Module, dict, list)) or (
        isinstance(batch, tuple) and bool(batch)
    )
