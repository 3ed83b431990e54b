"""The seam between what an estimator computes and where, and how safely, it is computed.

An estimator cuts its work into pieces with a key each (a layer, a format, a probe, a batch) and hands them to the
study's engine. Pieces are independent and take all they need from the study and their key, so any engine (this
process, several processes, a cluster, a journal that remembers finished pieces) gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from allocator.knapsack.problem import FloatArray

if TYPE_CHECKING:
    from sensitivity.study.study import Study

#: What tells a piece from the others of its stage.
Key = tuple[str, ...]
#: Computes one piece. A module-level function, or a partial of one, so that it can be sent to another process.
Measure = Callable[["Study", Key], FloatArray]
#: Told every piece as soon as it is there.
Keep = Callable[[Key, FloatArray], None]


def forget(key: Key, piece: FloatArray) -> None:
    """Keep nothing."""
    del key, piece


class Engine(Protocol):
    """Computes pieces, anywhere and in any order."""

    def __call__(
        self, study: Study, stage: str, keys: Sequence[Key], measure: Measure, keep: Keep = forget
    ) -> Sequence[FloatArray]:
        """Compute every piece of a stage, report progress after each, and return them in the order of the keys.

        Without keys, only make sure that work can begin.
        """
        ...


def serial(
    study: Study, stage: str, keys: Sequence[Key], measure: Measure, keep: Keep = forget
) -> Sequence[FloatArray]:
    """Compute the pieces one after the other, here.

    Args:
        stage: Name of the stage, for progress reports.
        keys: One per piece.
        keep: Told every piece as soon as it is there.

    Returns:
        The pieces, in the order of the keys.
    """
    stage_study = replace(study, memo={})
    pieces: list[FloatArray] = []
    for key in keys:
        pieces.append(measure(stage_study, key))
        keep(key, pieces[-1])
        study.progress(stage, len(pieces), len(keys))
    return pieces


def begin(study: Study) -> None:
    """Let an engine that cannot work, such as one with another run's journal, say so before anything is computed."""
    study.engine(study, "begin", (), _nothing)


def _nothing(study: Study, key: Key) -> FloatArray:
    raise AssertionError(f"no piece of {type(study.model).__name__} was asked for, got {key}")
