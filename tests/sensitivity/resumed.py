"""A run that can be killed: it notes every piece that it computes, and takes its time.

``python -m tests.sensitivity.resumed <folder> <seconds per piece>`` writes ``<folder>/profile.json``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from allocator import Profile
from allocator.knapsack.problem import FloatArray
from sensitivity import Study, measured, profile_model
from sensitivity.engines.journal import Journal
from sensitivity.study.study import Progress, silent
from sensitivity.study.tasks import Engine, Keep, Key, Measure, forget, serial
from tests.sensitivity.studies import Blocks, squares

FORMATS = ("int2", "int4-g4", "uint3", "fp16")
BATCHES = [torch.linspace(-1, 1, 20).reshape(5, 4), torch.linspace(2, -1, 12).reshape(3, 4)]


def outputs(model: nn.Module, batch: Tensor) -> Tensor:
    result: Tensor = model(batch)
    return result


def distance(original: Tensor, changed: Tensor) -> Tensor:
    return (original - changed).square().sum(1)


#: (name, outputs, distance) of a measured table that any process can compute.
shift = partial(measured, name="shift", outputs=outputs, distance=distance, meaning="squared distance")


@dataclass(frozen=True)
class Noting:
    """The serial engine, with a note of every piece that it computes."""

    log: Path
    pause_s: float = 0.0

    def __call__(
        self, study: Study, stage: str, keys: Sequence[Key], measure: Measure, keep: Keep = forget
    ) -> Sequence[FloatArray]:
        return serial(study, stage, keys, partial(self._noted, measure), keep)

    def _noted(self, measure: Measure, study: Study, key: Key) -> FloatArray:
        with self.log.open("a") as log:
            log.write(" ".join(key) + "\n")
        time.sleep(self.pause_s)
        return measure(study, key)


def run(engine: Engine = serial, progress: Progress = silent, seed: int = 0) -> Profile:
    estimators = {"shift": shift, "twice": partial(shift, name="twice", batches=BATCHES[:1] * 2)}
    model = Blocks()
    return profile_model(
        model, BATCHES, squares, FORMATS, estimators, engine=engine, progress=progress, seed=seed
    )


def main(folder: Path, pause_s: float) -> None:
    torch.set_num_threads(1)
    profile = run(Journal(folder / "run.journal", Noting(folder / "log", pause_s)))
    (folder / "profile.json").write_text(profile.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
