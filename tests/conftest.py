"""What several rooms' tests share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def published() -> Callable[[str], Any]:
    """Read a published case."""
    return lambda name: json.loads((ROOT / "tests" / "data" / name).read_text("utf-8"))
