"""What the service computes: a body in, a result out, nothing of HTTP. To add one: a file, and a line here."""

from __future__ import annotations

from importlib import import_module

from api.operations.operation import Operation

#: Name → module with an ``OPERATION``.
OPERATIONS: dict[str, str] = {
    "frontier": "api.operations.frontier",
    "explanation": "api.operations.explanation",
    "comparison": "api.operations.comparison",
    "export": "api.operations.export",
    "lint": "api.operations.lint",
}


def load_operation(name: str) -> Operation:
    """Load an operation.

    Returns:
        The operation.

    Example:
        >>> load_operation("lint").path
        '/lint'
    """
    operation: Operation = import_module(OPERATIONS[name]).OPERATION
    return operation
