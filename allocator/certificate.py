"""An independent check of a plan: plain sums over the tables, nothing shared with the solvers.

Integer tables are added as Python integers; others with :func:`math.fsum`, which rounds once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from allocator.allocation import Certificate
from allocator.patterns import matching
from allocator.profile import CostTable, Profile, ResourceTable
from allocator.request import Request
from allocator.tables import combines_by_max, constant_of, find_table, resolve_budgets, resolve_objective


def certify(profile: Profile, request: Request, assignment: Mapping[str, str]) -> Certificate:
    """Recompute what a plan costs and spends, and list everything wrong with it.

    Args:
        profile: The tables.
        request: Objective, budgets, pins.
        assignment: Layer name to format name.

    Returns:
        The certificate; its ``violations`` are empty for a valid plan.

    Raises:
        InvalidInputError: The request does not fit the profile.

    Example:
        >>> from allocator.profile import load_profile
        >>> profile = load_profile(
        ...     {
        ...         "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...         "layers": [{"name": "fc"}],
        ...         "costs": {"kl": {"values": [[0.5, 0.1]]}},
        ...         "resources": {"bytes": {"values": [[50, 100]], "unit": "byte"}},
        ...     }
        ... )
        >>> certify(profile, Request(budgets={"bytes": 60}), {"fc": "int8"}).violations
        ('bytes: 100 byte is over the limit of 60 byte',)
    """
    violations = list(_shape_violations(profile, assignment))
    if violations:
        return Certificate(objective=math.nan, used={}, violations=tuple(violations))
    columns = {name: index for index, name in enumerate(profile.formats)}
    plan = [columns[assignment[layer.name]] for layer in profile.layers]
    objective = resolve_objective(profile, request)
    parts: list[float] = []
    for name, weight in objective.weights.items():
        values = list(_chosen(find_table(profile, name), plan))
        violations.extend(_nulls(profile, name, values))
        parts.extend(weight * value for value in values if value is not None)
    used = {}
    for budget in resolve_budgets(profile, request):
        table = find_table(profile, budget.table)
        values = list(_chosen(table, plan))
        violations.extend(_nulls(profile, budget.table, values))
        amount = _combined(table, [value for value in values if value is not None])
        used[budget.name] = amount * budget.per_unit
        if budget.slack(amount) < -budget.tolerance:
            side = "under" if budget.at_least else "over"
            unit = table.unit if isinstance(table, ResourceTable) else ""
            text = f"{budget.name}: {amount:g} {unit} is {side} the limit of {budget.limit:g} {unit}"
            violations.append(" ".join(text.split()))
    violations.extend(_unit_violations(profile, assignment))
    violations.extend(_rule_violations(profile, request, assignment))
    return Certificate(
        objective=math.fsum(parts) + objective.constant, used=used, violations=tuple(violations)
    )


def total(profile: Profile, name: str, assignment: Mapping[str, str]) -> float:
    """Add up one table over a plan, constant included.

    Args:
        profile: The tables.
        name: Name of a cost or resource table, whether or not it was budgeted.
        assignment: Layer name to format name, for every layer.

    Returns:
        The sum (or, for tables that combine by maximum, the largest), in the unit of the table.
    """
    columns = {text: index for index, text in enumerate(profile.formats)}
    plan = [columns[assignment[layer.name]] for layer in profile.layers]
    table = find_table(profile, name)
    return _combined(table, [value for value in _chosen(table, plan) if value is not None])


def _chosen(table: CostTable | ResourceTable, plan: Iterable[int]) -> Iterable[float | None]:
    return (row[column] for row, column in zip(table.values, plan, strict=True))


def _combined(table: CostTable | ResourceTable, values: list[float]) -> float:
    if combines_by_max(table):
        return max(values) + constant_of(table)
    if all(float(value).is_integer() for value in values):
        return float(sum(int(value) for value in values) + constant_of(table))
    return math.fsum([*values, constant_of(table)])


def _shape_violations(profile: Profile, assignment: Mapping[str, str]) -> Iterable[str]:
    names = {layer.name for layer in profile.layers}
    yield from (f"{name}: no format assigned" for name in names - assignment.keys())
    yield from (f"{name}: not a layer of the profile" for name in assignment.keys() - names)
    for name, chosen in assignment.items():
        if chosen not in profile.formats:
            yield f"{name}: {chosen!r} is not a format of the profile"


def _nulls(profile: Profile, table: str, values: list[float | None]) -> Iterable[str]:
    for layer, value in zip(profile.layers, values, strict=True):
        if value is None:
            yield f"{layer.name}: table {table!r} has no value for its format"


def _unit_violations(profile: Profile, assignment: Mapping[str, str]) -> Iterable[str]:
    first: dict[str, str] = {}
    for layer in profile.layers:
        if layer.unit is not None:
            leader = first.setdefault(layer.unit, layer.name)
            if assignment[leader] != assignment[layer.name]:
                yield f"{layer.name}: differs from {leader!r}, which is of the same unit {layer.unit!r}"


def _rule_violations(profile: Profile, request: Request, assignment: Mapping[str, str]) -> Iterable[str]:
    names = [layer.name for layer in profile.layers]
    wanted: list[tuple[str, tuple[str, ...], bool]] = [
        *((pattern, (name,), True) for pattern, name in request.pin.items()),
        *((pattern, formats, True) for pattern, formats in request.allow.items()),
        *((pattern, formats, False) for pattern, formats in request.forbid.items()),
    ]
    for pattern, formats, keep in wanted:
        for name in (names[index] for index in matching(pattern, names)):
            if (assignment[name] in formats) != keep:
                yield f"{name}: {assignment[name]!r} breaks the rule for {pattern!r}"
