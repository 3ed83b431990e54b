"""What a lint looks at and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from allocator.contract.remarks import Finding
from quantize.exports.rules import Rules
from quantize.formats import StorageFormat
from quantize.lint.model import Model


@dataclass(frozen=True)
class Case:
    """What is linted.

    Attributes:
        formats: Layer → format.
        model: What is known of the model.
        target: Whose file it is; None for a bare plan.
        unused: Patterns of the file that match no layer.
        rules: The file's rules; None for a bare plan.
        unruled: Layers that no rule of the file is about, where the tool gives those something that the file does not
            state.
        unnamed: What they get.
    """

    formats: Mapping[str, StorageFormat]
    model: Model
    target: str | None = None
    unused: tuple[str, ...] = ()
    rules: Rules | None = None
    unruled: tuple[str, ...] = ()
    unnamed: str = ""


Check: TypeAlias = Callable[[Case], Iterable[Finding]]
