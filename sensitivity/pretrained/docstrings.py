"""Real text that is on every machine: docstrings of the Python standard library.

The first sentence of a docstring is a query and the rest of it is the document that the query should find.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

_SENTENCE = re.compile(r"(.{20,200}?[.!?])\s+(.{80,})")
_SKIPPED = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "__pycache__",
}


def docstring_pairs(count: int, folder: Path | None = None) -> list[tuple[str, str]]:
    """Collect (first sentence, rest) pairs.

    Files are visited in the order of the hash of their path, so that the pairs come from all over the library.

    Args:
        count: Number of pairs.
        folder: Folder with Python files; the standard library when absent.

    Returns:
        The pairs, no first sentence twice; fewer where the folder has no more.
    """
    pairs: dict[str, str] = {}
    for path in source_files(folder):
        for query, document in _pairs_of(path):
            pairs.setdefault(query, document)
        if len(pairs) >= count:
            break
    return list(pairs.items())[:count]


def source_files(folder: Path | None = None) -> list[Path]:
    """List Python files, tests and installed packages left out.

    Args:
        folder: Folder with Python files; the standard library when absent.

    Returns:
        Their paths, in the order of the hash of the path below the folder.
    """
    root = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    files = [path.relative_to(root) for path in root.rglob("*.py")]
    files = [path for path in files if not _SKIPPED.intersection(path.parts)]
    files.sort(key=lambda path: hashlib.sha256(path.as_posix().encode()).digest())
    return [root / path for path in files]


def _pairs_of(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes in other people's files
            tree = ast.parse(path.read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            match = _SENTENCE.fullmatch(" ".join((ast.get_docstring(node) or "").split()))
            if match:
                yield match[1], match[2]
