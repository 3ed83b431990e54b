"""What an export and a read-back give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from allocator import Fault, InvalidInputError
from allocator.contract.remarks import Loss
from quantize.formats import StorageFormat
from quantize.storage.files import replacing


@dataclass(frozen=True)
class Export:
    """A plan in a target's own words.

    Attributes:
        target: The target.
        files: File name → text.
        losses: What the files do not say as the plan does; empty where nothing is lost.
        advice: What to do with the files.
    """

    target: str
    files: Mapping[str, str]
    losses: tuple[Loss, ...]
    advice: str


@dataclass(frozen=True)
class Reading:
    """A target's files, read.

    Attributes:
        target: The target.
        formats: Layer → format. Formats beyond those of a Profile keep the target's name for them.
        unused: Patterns that match no layer.
        notes: What the files say beyond formats of weights.
        unruled: Layers that the files say nothing about, and that the tool gives something of its own.
    """

    target: str
    formats: Mapping[str, StorageFormat]
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unruled: tuple[str, ...] = ()

    @property
    def assignment(self) -> dict[str, str]:
        """Return the plan that the files stand for: layer name to format name."""
        return {layer: target.name for layer, target in self.formats.items()}


def write(export: Export, folder: Path, *, force: bool = False) -> tuple[Path, ...]:
    """Write the files of an export, each whole or not at all.

    Args:
        folder: Where; it is made.
        force: Whether files that exist may be replaced.

    Returns:
        The files.

    Raises:
        InvalidInputError: A file exists; nothing was written.
    """
    paths = tuple(folder / name for name in export.files)
    if taken := [path for path in paths if path.exists()]:
        if not force:
            detail = f"{', '.join(map(repr, map(str, taken)))} exists; choose another folder or use force"
            raise InvalidInputError(Fault("/out", detail))
        if folders := [path for path in taken if path.is_dir()]:
            raise InvalidInputError(Fault("/out", f"{str(folders[0])!r} is a folder"))
    for path, text in zip(paths, export.files.values(), strict=True):
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return paths
