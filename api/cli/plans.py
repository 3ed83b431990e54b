"""Plans and tables of names as files, for commands that take them."""

from __future__ import annotations

import json
from pathlib import Path

from allocator import Allocation, Fault, InvalidInputError
from api.cli.apply import read_allocation
from api.cli.server import Server


def read_plan(path: Path, server: Server) -> Allocation | dict[str, str]:
    """Read a plan: an allocation, or a table of layer and format that somebody wrote.

    Args:
        path: JSON file, or the id of a plan that the service keeps.
        server: The service.

    Returns:
        The plan.
    """
    table = _table(path)
    return read_allocation(path, server) if table is None else table


def read_names(path: Path | None) -> dict[str, str]:
    """Read a table of layers and another tool's names for them.

    Args:
        path: JSON file; None for no table.

    Returns:
        Layer → name.

    Raises:
        InvalidInputError: The file is no such table.
    """
    if path is None:
        return {}
    table = _table(path)
    if table is None:
        detail = f"expected a JSON table of layer and name in {str(path)!r}"
        raise InvalidInputError(Fault("--names", detail))
    return table


def _table(path: Path) -> dict[str, str] | None:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        return None
    return document
