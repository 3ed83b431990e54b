"""An independent check of a plan: plain sums over the tables, nothing shared with the solvers.

Integer tables are added as Python integers; others with :func:`math.fsum`, which rounds once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from allocator.contract.allocation import Certificate
from allocator.contract.patterns import matching
from allocator.contract.profile import CostTable, Fusion, Profile
from allocator.contract.request import Request
from allocator.knapsack.constraint import Constraint
from allocator.knapsack.constraints import resolve_limits
from allocator.knapsack.tables import combines_by_max, constant_of, find_table, resolve_objectives


def certify(
    profile: Profile, request: Request, assignment: Mapping[str, str], fusions: Collection[str] = ()
) -> Certificate:
    """Recompute what a plan costs and spends, and list everything wrong with it.

    Args:
        request: Objectives, budgets, limits, pins.
        assignment: Layer name to format name.
        fusions: Names of the fusions that the plan uses.

    Returns:
        The certificate; its ``violations`` are empty for a valid plan.

    Raises:
        InvalidInputError: The request does not fit the profile.

    Example:
        >>> from allocator.contract.profile import load_profile
        >>> profile = load_profile(
        ...     {
        ...         "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...         "layers": [{"name": "fc"}],
        ...         "costs": {"kl": {"values": [[0.5, 0.1]]}},
        ...         "resources": {"bytes": {"values": [[50, 100]], "unit": "byte"}},
        ...     }
        ... )
        >>> certify(profile, Request(budgets={"bytes": 60}), {"fc": "int8"}).violations
        ('bytes: 100 byte is above the most allowed, 60 byte',)
    """
    violations = list(_shape_violations(profile, assignment, fusions))
    if violations:
        return Certificate(objective=math.nan, objectives=(), used={}, violations=tuple(violations))
    plan = _Plan(profile, assignment, fusions)
    objectives = []
    for objective in resolve_objectives(profile, request):
        parts: list[float] = []
        for name, weight in objective.weights.items():
            parts.extend(
                weight * value for value in plan.entries(name, objective.caution, objective.maximise)
            )
        objectives.append(math.fsum(parts) + objective.constant)
    used = {}
    for row in resolve_limits(profile, request):
        amount = plan.amount(row)
        used[row.name] = row.reported(amount)
        if row.broken(amount):
            violations.append(_over(row, amount))
    violations.extend(plan.missing)
    violations.extend(_unit_violations(profile, assignment))
    violations.extend(_fusion_violations(plan.fused, assignment))
    violations.extend(_rule_violations(profile, request, assignment))
    return Certificate(
        objective=objectives[0],
        objectives=tuple(objectives),
        used=used,
        violations=tuple(dict.fromkeys(violations)),
    )


def total(profile: Profile, name: str, assignment: Mapping[str, str], fusions: Collection[str] = ()) -> float:
    """Add up one table over a plan, constant included.

    Args:
        name: Name of a cost or resource table, whether or not it was budgeted.
        assignment: Layer name to format name, for every layer.
        fusions: Names of the fusions that the plan uses.

    Returns:
        The sum (or, for tables that combine by maximum, the largest), in the unit of the table.
    """
    table = find_table(profile, name)
    values = _Plan(profile, assignment, fusions).entries(name)
    return _combined(values, constant_of(table), peak=combines_by_max(table))


def totals(
    profile: Profile, assignment: Mapping[str, str], fusions: Collection[str] = ()
) -> dict[str, float | None]:
    """Add up every table over a plan, constants included.

    Args:
        assignment: Layer name to format name, for every layer.
        fusions: Names of the fusions that the plan uses.

    Returns:
        Name of a cost or resource table to its sum; None where it has no value for a format that the plan chose.
    """
    plan = _Plan(profile, assignment, fusions)
    sums: dict[str, float | None] = {}
    for name in (*profile.costs, *profile.resources):
        plan.missing.clear()
        values, table = plan.entries(name), find_table(profile, name)
        whole = _combined(values, constant_of(table), peak=combines_by_max(table))
        sums[name] = None if plan.missing else whole
    return sums


class _Plan:
    """Looks up what a plan chose, table by table."""

    def __init__(self, profile: Profile, assignment: Mapping[str, str], fusions: Collection[str]) -> None:
        columns = {name: index for index, name in enumerate(profile.formats)}
        self.profile = profile
        self.columns = [columns[assignment[layer.name]] for layer in profile.layers]
        self.fused = [fusion for fusion in profile.fusions if fusion.name in fusions]
        self.missing: list[str] = []

    def entries(self, name: str, caution: float = 0.0, maximise: bool = False) -> list[float]:
        # Chosen entries of a table, fused kernels in place of their layers.
        table = find_table(self.profile, name)
        values: list[float | None] = [
            row[column] for row, column in zip(table.values, self.columns, strict=True)
        ]
        if caution and isinstance(table, CostTable) and table.stderr is not None:
            sign = -1.0 if maximise else 1.0
            errors = [row[column] for row, column in zip(table.stderr, self.columns, strict=True)]
            values = [
                None if value is None or error is None else value + sign * caution * error
                for value, error in zip(values, errors, strict=True)
            ]
        return self._present(name, values, range(len(values)))

    def amount(self, row: Constraint) -> float:
        columns, formats = self.columns, set(row.formats)
        inside = [layer for layer in row.layers if columns[layer] in formats]
        if row.table is None:
            return float(len(inside))
        rows = find_table(self.profile, row.table).values
        values: list[float | None] = [rows[layer][columns[layer]] for layer in inside]
        return _combined(self._present(row.table, values, inside), row.constant, peak=row.peak)

    def _present(self, name: str, values: Sequence[float | None], layers: Iterable[int]) -> list[float]:
        present = [value for value in values if value is not None]
        if not self.fused and len(present) == len(values):
            return present
        names = [layer.name for layer in self.profile.layers]
        index_of = {name: index for index, name in enumerate(names)}
        by_layer = dict(zip(layers, values, strict=True))
        kernels: list[float] = []
        for fusion in self.fused:
            row = fusion.resources.get(name)
            members = [index_of[layer] for layer in fusion.layers]
            if row is None or not all(layer in by_layer for layer in members):
                continue
            spent = row[self.columns[members[0]]]
            if spent is None:
                self.missing.append(f"{fusion.name}: the fused kernel does not exist in this format")
                continue
            kernels.append(spent)
            for layer in members:
                del by_layer[layer]
        for layer, value in by_layer.items():
            if value is None:
                self.missing.append(f"{names[layer]}: table {name!r} has no value for its format")
        return [*(value for value in by_layer.values() if value is not None), *kernels]


def _combined(values: Sequence[float], constant: float, *, peak: bool) -> float:
    if peak:
        return max(values, default=0.0) + constant
    if all(map(float.is_integer, map(float, (*values, constant)))):
        return float(sum(map(int, values)) + int(constant))
    return math.fsum([*values, constant])


def _over(row: Constraint, amount: float) -> str:
    above = row.high is not None and amount > row.high
    limit = row.limit if above else row.at_least
    side = "above the most allowed" if above else "below the least allowed"
    return f"{row.name}: {_in_unit(row.reported(amount), row)} is {side}, {_in_unit(limit or 0.0, row)}"


def _in_unit(amount: float, row: Constraint) -> str:
    text = f"{amount:.0f}" if float(amount).is_integer() else f"{amount:.9g}"
    return f"{text} {row.unit}".rstrip()


def _shape_violations(
    profile: Profile, assignment: Mapping[str, str], fusions: Collection[str]
) -> Iterable[str]:
    names = {layer.name for layer in profile.layers}
    yield from (f"{name}: no format assigned" for name in names - assignment.keys())
    yield from (f"{name}: not a layer of the profile" for name in assignment.keys() - names)
    yield from (
        f"{name}: not a fusion of the profile" for name in set(fusions) - {f.name for f in profile.fusions}
    )
    unknown = set(assignment.values()) - profile.formats.keys()
    for name in (name for name, chosen in assignment.items() if unknown and chosen in unknown):
        yield f"{name}: {assignment[name]!r} is not a format of the profile"


def _unit_violations(profile: Profile, assignment: Mapping[str, str]) -> Iterable[str]:
    first: dict[str, str] = {}
    for layer in profile.layers:
        if layer.unit is not None:
            leader = first.setdefault(layer.unit, layer.name)
            if assignment[leader] != assignment[layer.name]:
                yield f"{layer.name}: differs from {leader!r}, which is of the same unit {layer.unit!r}"


def _fusion_violations(fused: Iterable[Fusion], assignment: Mapping[str, str]) -> Iterable[str]:
    owner: dict[str, str] = {}
    for fusion in fused:
        if len({assignment[name] for name in fusion.layers}) > 1:
            yield f"{fusion.name}: fused layers must share one format"
        for name in fusion.layers:
            if owner.setdefault(name, fusion.name) != fusion.name:
                yield f"{name}: in two fusions of the plan, {owner[name]!r} and {fusion.name!r}"


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
