"""What the service computes: a body in, a result out, nothing of HTTP. To add one: a file, and a line here."""

from __future__ import annotations

from allocator.contract.registry import Registry
from api.operations.operation import Operation

#: Name → module with an ``OPERATION``.
OPERATIONS = Registry[Operation](
    "operation",
    {
        "frontier": "api.operations.frontier",
        "explanation": "api.operations.explanation",
        "comparison": "api.operations.comparison",
        "export": "api.operations.export",
        "lint": "api.operations.lint",
    },
    attribute="OPERATION",
)
