"""Resuming: an engine that remembers finished pieces in a file, so that a killed run goes on where it was.

>>> from sensitivity import profile_model
>>> profile_model(..., engine=Journal(Path("run.journal")))  # doctest: +SKIP

Start the same run again with the same journal: pieces that are in it are not computed again, and the profile is bit for
bit that of a run that was never stopped. A journal of another run is refused before anything is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from allocator.knapsack.problem import FloatArray
from quantize.storage.records import opened
from sensitivity.engines.fingerprint import fingerprint
from sensitivity.study.calibration import digest
from sensitivity.study.study import Study
from sensitivity.study.tasks import Engine, Keep, Key, Measure, forget, serial

_VERSIONED = ("bitalloc", "torch", "numpy")


@dataclass(frozen=True)
class Journal:
    """An engine that computes only what its file does not hold yet.

    Attributes:
        path: The file; begun when absent. See :mod:`quantize.storage.records` for what is safe in it, and when.
        engine: Computes the missing pieces.
    """

    path: Path
    engine: Engine = serial

    def __call__(
        self, study: Study, stage: str, keys: Sequence[Key], measure: Measure, keep: Keep = forget
    ) -> Sequence[FloatArray]:
        """Compute the pieces that are missing.

        Args:
            keys: One per piece.
            measure: Computes a piece; pieces of another function, or of other options, do not count as finished.
            keep: Told every piece as soon as it is there.

        Returns:
            The pieces, in the order of the keys.
        """
        with opened(self.path, run_of(study)) as records:
            work = fingerprint(measure)
            pieces = {
                key: records.found[stage, work, *key] for key in keys if (stage, work, *key) in records.found
            }
            for key, piece in pieces.items():
                keep(key, piece)
            if pieces:
                study.progress(stage, len(pieces), len(keys))
            missing = [key for key in keys if key not in pieces]
            before = len(pieces)

            def note(key: Key, piece: FloatArray) -> None:
                records.append((stage, work, *key), piece)
                pieces[key] = piece
                keep(key, piece)

            def onwards(stage: str, done: int, total: int) -> None:
                study.progress(stage, before + done, before + total)

            if missing:
                self.engine(replace(study, progress=onwards), stage, missing, measure, note)
            return [pieces[key] for key in keys]


def run_of(study: Study) -> dict[str, Any]:
    """Say what a run is: two runs with the same description give the same pieces.

    Changed code of the model or the loss shows in the losses of the first batch.

    Returns:
        JSON values: digests of parameters, data and first losses, and names of rows and columns, seed, versions.
    """
    with torch.no_grad():
        losses = study.loss_fn(study.model, study.batches[0])
    return {
        "model_sha256": digest(dict(study.model.state_dict())),
        "data_sha256": digest(study.batches),
        "first_losses_sha256": digest(losses),
        "rows": [row.name for row in study.rows],
        "rounding": fingerprint(study.rounding),
        "formats": [fmt.name for fmt in study.formats],
        "seed": study.seed,
        "threads": torch.get_num_threads(),
        "versions": {name: metadata.version(name) for name in _VERSIONED},
    }
