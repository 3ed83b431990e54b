"""The answer: a plan with its proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from allocator.contract.identity import ModelIdentity
from allocator.contract.note import Note
from allocator.contract.schema import Strict
from allocator.contract.status import Status


class Usage(Strict):
    """What the plan spends of one budget or limit.

    Attributes:
        used: Amount spent, recomputed from the table.
        limit: Most allowed; absent for demands.
        at_least: Least demanded; absent for budgets.
        slack: Room left to the nearer side; never negative beyond the stated tolerance for non-integer tables.
        unit: Unit of the amounts.
        shadow_price: How much the objective would improve per unit that the binding side gives way, at the margin;
            absent for peaks.
    """

    used: float
    limit: float | None = None
    at_least: float | None = None
    slack: float
    unit: str
    shadow_price: float | None = None


class Certificate(Strict):
    """Objectives and limits recomputed from the tables, without the solver's word.

    Attributes:
        objective: Recomputed first objective.
        objectives: All recomputed objectives, in falling order of importance.
        used: Name of a budget or limit to the recomputed amount.
        violations: What is wrong with the plan; empty for a valid one.
    """

    objective: float
    objectives: tuple[float, ...]
    used: dict[str, float]
    violations: tuple[str, ...] = ()


class Reach(Strict):
    """What plans can reach of one budget or limit.

    Attributes:
        least: The least that any plan spends, whatever else was asked.
        most: The most that any plan spends.
        least_with_others: The least that a plan spends while it keeps everything else that was asked; absent where
            nothing else can be kept either.
        most_with_others: The most, likewise.
        limit: Most allowed, as asked; absent for demands.
        at_least: Least demanded, as asked; absent for budgets.
        unit: Unit of the amounts.
    """

    least: float
    most: float
    least_with_others: float | None = None
    most_with_others: float | None = None
    limit: float | None = None
    at_least: float | None = None
    unit: str = ""


class SolverReport(Strict):
    """Who solved it and with how much work.

    Attributes:
        name: Name of the solver.
        why: Why it was picked, where the request left that open.
        version: Version of the package that did the work.
        seconds: Wall clock.
        work: Counts: dual evaluations, units in the core, states, nodes.
    """

    name: str
    why: str | None = None
    version: str
    seconds: float
    work: Mapping[str, int] = {}


class Allocation(Strict):
    """A plan with its proof, or the reason why there is none.

    Attributes:
        status: What was proved; ``optimal`` only with a proof.
        advice: What the status means for the reader.
        assignment: Layer name to format name; absent where there is no plan.
        fusions: Names of the fusions that the plan uses.
        objective_name: What was optimised first.
        objective: Recomputed from the tables.
        bound: No plan within the limits has a better objective.
        gap: Distance between objective and bound, relative to the larger.
        then: Further objectives by name, each optimised among the plans that are best in all before it.
        tie_break: How the plan was chosen among equally good ones; absent where it was not.
        usage: Name of a budget or limit to what the plan spends of it.
        achievable: For infeasible requests: what each budget or limit would have to be.
        certificate: The independent check.
        solver: Who solved it.
        notes: What else the reader should know: what is outside the plan, how it compares with uniform by other
            tables, and where its table is not to be trusted.
        profile_sha256: The profile that was planned for.
        identity: The model that the profile was measured on, where it says; whoever applies the plan compares it.
        version: Version of bitalloc.
    """

    status: Status
    advice: str
    assignment: dict[str, str] | None = None
    fusions: tuple[str, ...] = ()
    objective_name: str
    objective: float | None = None
    bound: float | None = None
    gap: Annotated[float, Field(ge=0, le=2)] | None = None
    then: dict[str, float] = {}
    tie_break: str | None = None
    usage: dict[str, Usage] = {}
    achievable: dict[str, Reach] = {}
    certificate: Certificate | None = None
    solver: SolverReport
    notes: tuple[Note, ...] = ()
    profile_sha256: str
    identity: ModelIdentity | None = None
    version: str
