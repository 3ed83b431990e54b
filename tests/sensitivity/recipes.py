"""What workers can import: models to load, and pieces that go wrong."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import torch

from allocator import CostTable, Fault, InvalidInputError
from allocator.knapsack.problem import FloatArray
from sensitivity.engines.recipe import Recipe
from sensitivity.study.study import Study, table
from sensitivity.study.tasks import Key
from tests.sensitivity.resumed import BATCHES
from tests.sensitivity.studies import Blocks, squares


def blocks(order: tuple[int, ...] = (0, 1, 2), training: bool = True) -> tuple[object, ...]:
    return Blocks(order).train(training), BATCHES, squares


def unseeded() -> tuple[object, ...]:
    model = Blocks()
    with torch.no_grad():
        model.head.weight.uniform_(generator=torch.Generator().manual_seed(os.getpid()))
    return model, BATCHES, squares


def nothing() -> str:
    return "nothing"


#: The recipe of :func:`tests.sensitivity.resumed.run`.
BLOCKS = Recipe("tests.sensitivity.recipes:blocks", {"order": [0, 1, 2]})


def _entries(study: Study, name: str, measure: object) -> CostTable:
    keys = [(layer.name, fmt.name) for layer in study.layers for fmt in study.formats]
    pieces = study.engine(study, name, keys, measure)  # type: ignore[arg-type]
    return table(np.array(pieces).reshape(len(study.layers), -1), None, name)


def where(study: Study, folder: Path, deadly: tuple[str, ...] = (), always: bool = False) -> CostTable:
    """A table of numbers that any process agrees on; notes which process computed each, and may kill one on the way."""
    return _entries(study, "where", partial(_where, folder=folder, deadly=deadly, always=always))


def _where(study: Study, key: Key, *, folder: Path, deadly: Key, always: bool) -> FloatArray:
    with (folder / "log").open("a") as log:
        log.write(f"{os.getpid()} {torch.get_num_threads()} {' '.join(key)}\n")
    if key == deadly:
        killed = folder / "killed"
        if always or not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    weight = dict(study.model.named_parameters())[f"{key[0]}.weight"]
    return np.array(float(weight.detach().double().sum()) + len(key[1]))


def refusing(study: Study) -> CostTable:
    return _entries(study, "refusing", _refuse)


def _refuse(study: Study, key: Key) -> FloatArray:
    raise InvalidInputError(Fault("/piece", f"{key[0]} of {len(study.layers)} layers cannot be computed"))


def unsendable(study: Study) -> CostTable:
    return _entries(study, "unsendable", lambda *_: np.zeros(1))


def desks(study: Study) -> CostTable:
    return _entries(study, "desks", _desk)


def _desk(*_: object) -> FloatArray:
    import ray

    return np.array(float(ray.get_runtime_context().get_assigned_resources().get("desk", 0)))


def without_data() -> tuple[object, ...]:
    return Blocks(), [], squares


def threaded() -> tuple[object, ...]:
    return Blocks(), [torch.get_num_threads()], squares


def wide() -> tuple[object, ...]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1000, 1000), torch.nn.BatchNorm1d(1000))
    return model, [torch.ones(2, 1000)], squares
