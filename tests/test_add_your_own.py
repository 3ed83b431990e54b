"""The examples of "Add your own" run, and leave nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from allocator import SOLVERS
from api.operations import OPERATIONS
from quantize.backends import BACKENDS
from quantize.exports import EXPORTS
from quantize.formats import FORMATS
from tests.test_documents import run_page

FILES = ("energy", "swaps", "ternary_format", "rounded_copy", "lines", "sizes")


def test_every_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        names = run_page("docs/add_your_own.md", tmp_path)
        assert names["plan"].solver.name == "swaps"
        assert names["profile"].costs["energy"].values[0][0] > 0  # two bits take energy
        assert [(tmp_path / f"{name}.py").exists() for name in FILES] == [True] * len(FILES)
    finally:
        del (
            SOLVERS["swaps"],
            FORMATS["ternary-row"],
            BACKENDS["rounded copy"],
            EXPORTS["lines"],
            OPERATIONS["sizes"],
        )
        for name in FILES:
            sys.modules.pop(name, None)
