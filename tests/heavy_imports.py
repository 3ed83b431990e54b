"""Which test files need torch, found without importing them, and how torch is kept out."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import final

ROOT = Path(__file__).parents[1]
_HEAVY = {"benchmarks", "onnx", "onnxruntime", "sensitivity", "torch", "transformers"}


@cache
def needs_torch(path: Path) -> bool:
    """Whether a file, or one of the tests' helpers that it imports, imports torch or what is built on it."""
    for name in _imported(path):
        if name.partition(".")[0] in _HEAVY:
            return True
        helper = ROOT / f"{name.replace('.', '/')}.py"
        if name.startswith("tests.") and helper.exists() and needs_torch(helper):
            return True
    return False


def _imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


@final
class NoTorch(MetaPathFinder):
    """Makes torch look as if it were not installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse torch, and leave the rest to others."""
        del path, target
        if fullname.partition(".")[0] == "torch":
            raise ModuleNotFoundError("torch is kept out of these tests", name=fullname)
        return None
