"""Imports: what other tools measured, as a Profile. Measure once with any tool, plan here.

To add one: write ``quantize/imports/<name>.py`` with ``scores(request)`` and list it here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from allocator import Fault, InvalidInputError, Profile
from allocator.contract.errors import faults_of
from allocator.contract.registry import Registry
from quantize.imports.outside import with_model
from quantize.imports.scores import Request, Scores, profile_of
from quantize.imports.sizes import with_sizes

__all__ = ["IMPORTS", "import_scores"]

IMPORTS = Registry[Callable[[Request], Scores]](
    "source",
    {
        "auto-round": "quantize.imports.auto_round",
        "exllamav2": "quantize.imports.exllamav2",
        "mlx": "quantize.imports.mlx",
        "csv": "quantize.imports.csv",
        "imatrix": "quantize.imports.imatrix",
    },
    attribute="scores",
)


def import_scores(
    source: str,
    paths: Sequence[Path],
    *,
    formats: Sequence[str] = (),
    model: Path | None = None,
    name: str = "",
    names: Mapping[str, str] | None = None,
) -> Profile:
    """Turn another tool's scores into a profile.

    Args:
        source: A name in :data:`IMPORTS`.
        paths: Its files; auto-round has one per format.
        formats: Formats to give the scores, for files that do not name them (MLX, imatrix).
        model: Folder with a checkpoint, for files that need sizes or weights (MLX, imatrix); elsewhere it gives the
            numbers of weights, which budgets in effective bits need.
        names: Layer → the tool's own name for it, where its rule does not give it; layers with one such name are
            one row.

    Returns:
        The profile; what was left out or filled in is in the notes of its provenance.

    Raises:
        InvalidInputError: The source is unknown, a file cannot be read or holds what no profile may, or something was
            given that the source has no use for.
    """
    scores = IMPORTS.find(source)
    if not paths:
        raise InvalidInputError(Fault("/paths", "expected at least one file of scores, got none"))
    request = Request(tuple(paths), tuple(formats), model, _layers_of(names or {}))
    found = scores(request)
    if formats and source in _NAMED:
        raise InvalidInputError(Fault("/formats", f"files of {source} name their formats; leave this out"))
    if not found.layers:
        raise InvalidInputError(
            Fault("/paths", f"found no scores in {', '.join(path.name for path in paths)}")
        )
    if model is not None:
        found = with_sizes(found, model, request.names)
    try:
        profile = profile_of(found, name or (model.name if model else source))
    except ValidationError as error:
        raise InvalidInputError(*faults_of(error.errors(), None)) from error
    return profile if model is None else with_model(profile, model, found.members, request.names)


#: Sources whose files say what the formats are.
_NAMED = ("auto-round", "exllamav2", "csv")


def _layers_of(names: Mapping[str, str]) -> dict[str, list[str]]:
    layers: dict[str, list[str]] = {}
    for layer, own in names.items():
        layers.setdefault(own, []).append(layer)
    return layers
