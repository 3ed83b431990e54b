"""How much a JSON body may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JsonLimits:
    """What a body may hold; :class:`api.settings.Settings` has the same fields.

    Attributes:
        max_json_depth: Levels of nesting.
        max_json_values: Numbers, texts, arrays, objects and keys.
        max_layers: Rows of a profile.
        max_formats: Columns of a profile.
        max_rules: Entries of ``pin``, ``allow``, ``forbid``, ``limits``, ``budgets`` and ``batch``, each.
    """

    max_json_depth: int = 64
    max_json_values: int = 5_000_000
    max_layers: int = 100_000
    max_formats: int = 256
    max_rules: int = 1_000
