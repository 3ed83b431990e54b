"""The digits network, trained once for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.models import digits_cnn
from benchmarks.models.cache import one_thread
from benchmarks.models.trained import Trained


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine, threads that wait for each other make small convolutions fifty times slower."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def cnn() -> Trained:
    """Tests must leave it as it is."""
    return digits_cnn.load()
