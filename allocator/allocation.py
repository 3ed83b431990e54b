"""The answer: a plan with its proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from allocator.schema import Strict
from allocator.status import Status


class Usage(Strict):
    """What the plan spends of one budget.

    Attributes:
        used: Amount spent, recomputed from the table.
        limit: Amount allowed (or, where ``at_least``, demanded).
        slack: Room left; never negative in a plan beyond the stated tolerance for non-integer tables.
        unit: Unit of the three amounts.
        at_least: True for tables where higher is better.
        shadow_price: How much the objective would improve per extra unit, at the margin.
    """

    used: float
    limit: float
    slack: float
    unit: str
    at_least: bool = False
    shadow_price: float | None = None


class Certificate(Strict):
    """Objective and budgets recomputed from the tables, without the solver's word.

    Attributes:
        objective: Recomputed objective.
        used: Budget name to the recomputed amount.
        violations: What is wrong with the plan; empty for a valid one.
    """

    objective: float
    used: dict[str, float]
    violations: tuple[str, ...] = ()


class Reach(Strict):
    """What plans can reach of one budget.

    Attributes:
        least: The least that any plan spends, whatever the other budgets.
        most: The most that any plan spends.
        limit: The budget that was asked for.
        best_with_others: What this budget would have to be for a plan to exist while all other budgets hold;
            absent where no budget on this table would help.
        unit: Unit of the amounts.
    """

    least: float
    most: float
    limit: float
    best_with_others: float | None = None
    unit: str = ""


class SolverReport(Strict):
    """Who solved it and with how much work.

    Attributes:
        name: Name of the solver.
        version: Version of the package that did the work.
        seconds: Wall clock.
        work: Counts: dual evaluations, units in the core, states, nodes.
    """

    name: str
    version: str
    seconds: float
    work: Mapping[str, int] = {}


class Allocation(Strict):
    """A plan with its proof, or the reason why there is none.

    Attributes:
        status: What was proved; ``optimal`` only with a proof.
        advice: What the status means for the reader.
        assignment: Layer name to format name; absent where there is no plan.
        objective_name: What was optimised.
        objective: Recomputed from the tables.
        bound: No plan within the budgets has a better objective.
        gap: Distance between objective and bound, relative to the larger.
        usage: Budget name to what the plan spends of it.
        achievable: For infeasible requests: what each budget would have to be.
        certificate: The independent check.
        solver: Who solved it.
        profile_sha256: The profile that was planned for.
        version: Version of bitalloc.
    """

    status: Status
    advice: str
    assignment: dict[str, str] | None = None
    objective_name: str
    objective: float | None = None
    bound: float | None = None
    gap: Annotated[float, Field(ge=0, le=2)] | None = None
    usage: dict[str, Usage] = {}
    achievable: dict[str, Reach] = {}
    certificate: Certificate | None = None
    solver: SolverReport
    profile_sha256: str
    version: str
