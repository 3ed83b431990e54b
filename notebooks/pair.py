"""Write the notebooks from their scripts: ``python notebooks/pair.py``.

The percent scripts are the source; the ``.ipynb`` files beside them are what Jupyter opens, always without outputs and
always with the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def scripts() -> list[Path]:
    """List the scripts.

    Returns:
        Their paths, in the order of their numbers.
    """
    return sorted(FOLDER.glob("[0-9]*.py"))


def notebook(script: Path) -> NotebookNode:
    """Make the notebook of a script.

    Args:
        script: A percent script.

    Returns:
        The notebook, without outputs; cells are named by their number, so that nothing differs from run to run.
    """
    made = jupytext.read(script, fmt="py:percent")
    made.metadata = NotebookNode(kernelspec=_KERNEL)
    made.nbformat_minor = 5
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"
        cell["metadata"] = NotebookNode()
    return made


def text(script: Path) -> str:
    """Write a notebook as Jupyter would.

    Args:
        script: A percent script.

    Returns:
        The contents of the ``.ipynb`` file.
    """
    return str(nbformat.writes(notebook(script))) + "\n"


if __name__ == "__main__":
    for path in scripts():
        path.with_suffix(".ipynb").write_text(text(path), "utf-8")
