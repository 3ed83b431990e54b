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
    """Read a published case, or skip where the folder of cases is absent."""

    def read(name: str) -> Any:
        path = ROOT.parent / "shared" / "data" / name
        if not path.exists():
            pytest.skip(f"published cases are not on this machine: {path} is missing")
        return json.loads(path.read_text())

    return read
