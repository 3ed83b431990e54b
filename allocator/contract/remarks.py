"""What is said about a plan: what another tool's files lose of it, and what a runtime would trip over.

``quantize`` finds both, the service sends them, and its client reads them without ``quantize``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Loss:
    """What a target could not express.

    Attributes:
        layer: The layer.
        wanted: Its format in the plan.
        instead: What the files say.
        reason: Why.
    """

    layer: str
    wanted: str
    instead: str
    reason: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.wanted} becomes {self.instead}: {self.reason}"


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
