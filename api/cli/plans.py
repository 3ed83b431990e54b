"""Plans as files, the same kinds for every command that takes one, and tables of names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from allocator import Allocation, Fault, InvalidInputError
from allocator.contract.errors import decoded, faults_of
from api.cli.server import HERE, Server, stored_plan
from quantize.exports import EXPORTS, read, read_files

#: What ``--format`` calls a plan of ours.
PLAN = "plan"

_TOOLS = ", ".join(f"`{name}`" for name in EXPORTS)
PlanFile: TypeAlias = Annotated[
    Path,
    typer.Argument(
        help="Allocation, as written by `bitalloc solve --out`, a JSON table of layer and format, or with `--server` "
        "the id of a stored allocation; with `--format`, a configuration of another tool."
    ),
]
PlanFormat: TypeAlias = Annotated[
    str, typer.Option("--format", help=f"What the plan is: `plan`, or whose configuration: {_TOOLS}.")
]
PlanNames: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--names",
        help="JSON table of layers and the tool's names for them: nodes, tensors.",
        metavar="FILE",
    ),
]


def read_plan(
    path: Path,
    server: Server = HERE,
    *,
    written_for: str = PLAN,
    layers: Iterable[str] | None = None,
    names: Mapping[str, str] | None = None,
) -> Allocation | dict[str, str]:
    """Read a plan: an allocation, a table of layer and format that somebody wrote, or another tool's configuration.

    Args:
        path: JSON file, the id of a plan that the service keeps, or files of another tool.
        written_for: ``plan``, or whose configuration it is: a name in ``quantize.exports.EXPORTS``.
        layers: Layers of the model, for configurations that name them by pattern.
        names: Layer → the tool's own name for it, for configurations.

    Returns:
        The plan; of a configuration, only the layers that it gives a format.
    """
    if written_for != PLAN:
        reading = read(written_for, read_files(written_for, path), layers=layers, names=names)
        return {layer: fmt.name for layer, fmt in reading.formats.items() if not fmt.plain}
    table = _table(path)
    return read_allocation(path, server) if table is None else table


def read_allocation(path: Path, server: Server = HERE) -> Allocation:
    """Read an allocation.

    Args:
        path: JSON file, from the command or as the service sent it; or the id of a plan that the service keeps.

    Returns:
        The allocation.

    Raises:
        InvalidInputError: The file cannot be read or does not hold an allocation.
    """
    from pydantic import ValidationError

    from bitalloc.wire import StoredAllocation

    kept = stored_plan(path, server)
    if kept is not None:
        return kept
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(Fault("", f"cannot read the plan {str(path)!r}: {error.strerror}")) from error
    document = decoded(content)
    if document is None:
        detail = f"expected an allocation or a table of layer and format, as JSON; {str(path)!r} is no JSON"
        raise InvalidInputError(Fault("", detail))
    stored = isinstance(document, dict) and "id" in document
    try:
        return (StoredAllocation if stored else Allocation).model_validate_json(content)
    except ValidationError as error:
        raise InvalidInputError(*faults_of(error.errors(), document)) from error


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
    # A plan may be all that an answer was cut down to: {"assignment": {layer: format}}.
    if isinstance(document, dict) and list(document) == ["assignment"]:
        document = document["assignment"]
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        return None
    return document
