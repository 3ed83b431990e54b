"""What a reader of an answer should know beside the plan: notes, and warnings."""

from __future__ import annotations

from typing import Literal

from allocator.contract.schema import Strict


class Note(Strict):
    """One remark on an answer.

    Attributes:
        about: What it is about: ``coverage``, ``uniform``, ``negative entries``, ``comparison``, ``loss``, ``noise``,
            ``pins``, ``model``, ``search``, ``time``.
        severity: ``warning`` where the plan may be worse than its numbers say.
        text: One sentence for people.

    Example:
        >>> str(Note(about="coverage", severity="warning", text="only 23 % of the weights are planned"))
        'warning: only 23 % of the weights are planned'
    """

    about: str
    severity: Literal["note", "warning"] = "note"
    text: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.text}"
