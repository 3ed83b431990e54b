"""What a lint looks at and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from quantize.exports.rules import Rules
from quantize.formats import StorageFormat
from quantize.lint.model import Model
from quantize.runtimes.capabilities import Severity


@dataclass(frozen=True)
class Finding:
    """One thing that a runtime would trip over.

    Attributes:
        severity: ``error`` where the model does not load or computes something else; ``warning`` where it may not on
            some releases or devices, or runs otherwise than planned.
        rule: Name of the rule.
        layers: The layers it is about; empty for the whole file.
        detail: What is wrong.
        advice: What to do.
    """

    severity: Severity
    rule: str
    layers: tuple[str, ...]
    detail: str
    advice: str

    def __str__(self) -> str:
        about = f"{', '.join(self.layers)}: " if self.layers else ""
        return f"{self.severity} [{self.rule}] {about}{self.detail}; {self.advice}"


@dataclass(frozen=True)
class Case:
    """What is linted.

    Attributes:
        formats: Layer → format.
        model: What is known of the model.
        target: Whose file it is; None for a bare plan.
        unused: Patterns of the file that match no layer.
        rules: The file's rules; None for a bare plan.
    """

    formats: Mapping[str, StorageFormat]
    model: Model
    target: str | None = None
    unused: tuple[str, ...] = ()
    rules: Rules | None = None


Check: TypeAlias = Callable[[Case], Iterable[Finding]]
