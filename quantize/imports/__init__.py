"""Imports: what other tools measured, as a Profile. Measure once with any tool, plan here.

To add one: write ``quantize/imports/<name>.py`` with ``scores(request)`` and list it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from allocator import Fault, InvalidInputError, Profile
from allocator.contract.errors import unknown
from quantize.imports.outside import with_model
from quantize.imports.scores import Request, Scores, profile_of

__all__ = ["IMPORTS", "import_scores"]

IMPORTS = {
    "auto-round": "quantize.imports.auto_round",
    "exllamav2": "quantize.imports.exllamav2",
    "mlx": "quantize.imports.mlx",
    "csv": "quantize.imports.csv",
    "imatrix": "quantize.imports.imatrix",
}


def import_scores(
    source: str,
    paths: Sequence[Path],
    *,
    formats: Sequence[str] = (),
    model: Path | None = None,
    name: str = "",
) -> Profile:
    """Turn another tool's scores into a profile.

    Args:
        source: A name in :data:`IMPORTS`.
        paths: Its files; auto-round has one per format.
        formats: Formats to give the scores, for files that do not name them (MLX, imatrix).
        model: Folder with a checkpoint, for files that need sizes or weights (MLX, imatrix).
        name: Name of the model, for people.

    Returns:
        The profile.

    Raises:
        InvalidInputError: The source is unknown, or a file cannot be read.
    """
    if source not in IMPORTS:
        raise InvalidInputError(Fault("/source", unknown(source, IMPORTS, "source")))
    if not paths:
        raise InvalidInputError(Fault("/paths", "expected at least one file of scores, got none"))
    found: Scores = import_module(IMPORTS[source]).scores(Request(tuple(paths), tuple(formats), model))
    if not found.layers:
        raise InvalidInputError(
            Fault("/paths", f"found no scores in {', '.join(path.name for path in paths)}")
        )
    profile = profile_of(found, name or (model.name if model else source))
    return profile if model is None else with_model(profile, model)
