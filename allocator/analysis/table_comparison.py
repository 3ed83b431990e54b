"""How much the tables of a profile agree, and what it costs to plan with one rather than with another.

Two tables can differ in every number and lead to the same plan, or agree in rank and lead to different ones, so both
are told: rank agreement with a reference table, and the reference cost of the plan that each table leads to, against
the best plan there is by the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from allocator.analysis.rank_agreement import Agreement, agreement
from allocator.answer.certificate import total
from allocator.answer.solve import solve
from allocator.contract.errors import Fault, InvalidInputError, unknown
from allocator.contract.profile import Profile
from allocator.contract.status import Status

__all__ = ["Agreement", "Comparison", "TablePlan", "compare_tables"]

#: Budgets of one plan, as :func:`~allocator.answer.solve.solve` takes them.
Budgets = Mapping[str, float | str]


@dataclass(frozen=True)
class TablePlan:
    """The plan that a table leads to.

    Attributes:
        table: Name of the table.
        budgets: The budgets it keeps.
        assignment: Layer → format; None where the budgets cannot be met.
        reference_cost: What it costs by the reference table.
        excess: Reference cost ÷ that of the reference's own plan, less 1: 0 for a plan as good. None where there is no
            plan, or the best one costs nothing or less.
        proved: Whether both plans are proved optimal for their tables.
    """

    table: str
    budgets: Budgets
    assignment: Mapping[str, str] | None
    reference_cost: float | None
    excess: float | None
    proved: bool


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare_tables` found.

    Attributes:
        reference: Name of the reference table.
        agreements: One for each other table.
        plans: One for each table and budget, the reference first.
    """

    reference: str
    agreements: tuple[Agreement, ...]
    plans: tuple[TablePlan, ...]


def compare_tables(
    profile: Profile,
    *,
    reference: str,
    budgets: Sequence[Budgets],
    tables: Sequence[str] | None = None,
    time_limit_s: float | None = None,
) -> Comparison:
    """Compare the cost tables of a profile with a measured one.

    Args:
        reference: Name of the table to believe, usually the measured one.
        budgets: Budgets of each plan, such as ``[{"effective_bits": 3}, {"effective_bits": 4}]``.
        tables: Names of the tables to compare; all other cost tables when absent.
        time_limit_s: Limit of each solve; plans that ran into it say that they are not proved.

    Returns:
        The comparison.

    Raises:
        InvalidInputError: A table is unknown, or a budget cannot be read.

    Example:
        >>> from allocator import load_profile
        >>> profile = load_profile(
        ...     {
        ...         "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...         "layers": [{"name": "up", "parameters": 100}, {"name": "down", "parameters": 100}],
        ...         "costs": {
        ...             "kl": {"values": [[0.5, 0.1], [0.3, 0.1]]},
        ...             "guess": {"values": [[0.2, 0.1], [0.9, 0.1]]},
        ...         },
        ...         "resources": {"weight_bytes": {"values": [[50, 100], [50, 100]], "unit": "byte"}},
        ...     }
        ... )
        >>> made = compare_tables(profile, reference="kl", budgets=[{"effective_bits": 6}])
        >>> [(plan.table, plan.assignment["up"], round(plan.excess, 3)) for plan in made.plans]
        [('kl', 'int8', 0.0), ('guess', 'int4', 0.5)]
    """
    for name in (reference, *(tables or ())):
        if name not in profile.costs:
            raise InvalidInputError(Fault("/tables", unknown(name, profile.costs, "cost table")))
    others = [name for name in tables or profile.costs if name != reference]
    plans = [
        plan for chosen in budgets for plan in _plans(profile, [reference, *others], chosen, time_limit_s)
    ]
    measured = profile.costs[reference]
    agreements = tuple(agreement(name, profile.costs[name], measured) for name in others)
    return Comparison(reference, agreements, tuple(plans))


def _plans(
    profile: Profile, tables: Sequence[str], budgets: Budgets, time_limit_s: float | None
) -> list[TablePlan]:
    made: list[TablePlan] = []
    for name in tables:
        answer = solve(profile, objective=name, budgets=dict(budgets), time_limit_s=time_limit_s)
        best = made[0] if made else None
        cost = None if answer.assignment is None else _cost(profile, tables[0], answer.assignment)
        least = cost if best is None else best.reference_cost
        proved = answer.status is Status.OPTIMAL and (best is None or best.proved)
        made.append(
            TablePlan(
                name, dict(budgets), answer.assignment, cost, _excess(profile, tables[0], cost, least), proved
            )
        )
    return made


def _cost(profile: Profile, reference: str, assignment: Mapping[str, str]) -> float | None:
    columns = list(profile.formats)
    rows = profile.costs[reference].values
    chosen = [
        row[columns.index(assignment[layer.name])] for row, layer in zip(rows, profile.layers, strict=True)
    ]
    # Another table may allow a format that the reference has no number for.
    return None if None in chosen else total(profile, reference, assignment)


def _excess(profile: Profile, reference: str, cost: float | None, least: float | None) -> float | None:
    if cost is None or least is None or least <= 0:
        return None
    return least / cost - 1 if profile.costs[reference].better == "higher" else cost / least - 1
