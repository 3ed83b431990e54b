"""What several rooms' tests share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.heavy_imports import NoTorch, needs_torch

ROOT = Path(__file__).parents[1]

#: Tests that measure time, load a service or drive a browser: beside others they would measure those.
_ALONE = (
    "tests/api/connections",
    "tests/api/demo/test_latency.py",
    "tests/api/jobs",
    "tests/api/keys",
    "tests/api/middleware",
    "tests/api/store",
    "tests/api/test_hostile.py",
    "tests/api/test_load_and_disk.py",
    "tests/api/test_server.py",
    "tests/api/test_two_keys.py",
    "tests/quantize/exports/test_hostile_files.py",
    "tests/quantize/feedback/test_latency.py",
    "tests/quantize/feedback/test_real_latency.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of ``make test-fast``."""
    parser.addoption(
        "--without-torch", action="store_true", help="leave out what imports torch, and forbid it"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make every import of torch fail, where it was asked for."""
    if config.getoption("--without-torch"):
        sys.meta_path.insert(0, NoTorch())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files that import torch, or what needs it."""
    if not config.getoption("--without-torch") or collection_path.suffix != ".py":
        return None
    return True if needs_torch(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what has to run by itself."""
    alone = tuple(str(ROOT / path) for path in _ALONE)
    for item in items:
        if str(item.path).startswith(alone):
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session")
def published() -> Callable[[str], Any]:
    """Read a published case."""
    return lambda name: json.loads((ROOT / "tests" / "data" / name).read_text("utf-8"))
