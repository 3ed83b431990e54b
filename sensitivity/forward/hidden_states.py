"""What calibration batches have become on their way through a model: in memory, or on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor


class HiddenStates:
    """One tensor per batch.

    Args:
        folder: Where to keep them; in memory when absent.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._states: dict[int, Tensor] = {}

    def put(self, batch: int, state: Tensor) -> None:
        """Keep the state of a batch instead of an earlier one.

        Args:
            batch: Index of the batch.
            state: (B, T, D).
        """
        if self._folder is None:
            self._states[batch] = state
        else:
            np.save(self._folder / f"{batch}.npy", state.numpy())

    def get(self, batch: int) -> Tensor:
        """The state of a batch.

        Args:
            batch: Index of the batch.

        Returns:
            (B, T, D), as it was put.
        """
        if self._folder is None:
            return self._states[batch]
        return torch.from_numpy(np.load(self._folder / f"{batch}.npy"))


@contextmanager
def hidden_states(spill: Path | None) -> Iterator[HiddenStates]:
    """Have a place for hidden states for a while.

    Args:
        spill: Keep them in a folder of their own in this one; in memory when absent.

    Yields:
        The place; it is gone at the end.
    """
    if spill is None:
        yield HiddenStates(None)
        return
    spill.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=spill, prefix="hidden-") as folder:
        yield HiddenStates(Path(folder))
