"""docs/service.md says what the code does."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from api.observability.metrics import Metrics
from api.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text("utf-8")


def _shown(default: Any) -> str:
    return {None: "none", (): "none"}.get(default, str(default))


def test_the_table_has_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("BITALLOC_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/home/somebody")
    rows = dict(re.findall(r"^\| `(BITALLOC_\w+)` \| (.+?) \| .+ \|$", PAGE, re.MULTILINE))
    defaults = {f"BITALLOC_{name.upper()}": _shown(value) for name, value in Settings().model_dump().items()}
    defaults["BITALLOC_DATA_DIR"] = defaults["BITALLOC_DATA_DIR"].replace("/home/somebody", "~").join("``")
    assert rows == defaults


def test_the_docstring_has_every_setting() -> None:
    described = set(re.findall(r"^ {8}(\w+): ", str(Settings.__doc__), re.MULTILINE))
    assert described == set(Settings.model_fields)


def test_the_table_has_every_metric() -> None:
    metrics = Metrics()
    metrics.watch_jobs(dict)
    written = set(re.findall(r"^# TYPE (\w+) ", metrics.text().decode(), re.MULTILINE))
    described = set(re.findall(r"^\| `(bitalloc_\w+)` \|", PAGE, re.MULTILINE))
    assert described == {name for name in written if not name.endswith("_created")}
