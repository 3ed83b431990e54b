"""What a solver may claim."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Outcome of a solve; the value is the wire name, :meth:`advice` says what to do about it."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    NO_SOLUTION = "no_solution"

    def advice(self) -> str:
        """Return one sentence for people: what the status means and what to do next."""
        return _ADVICE[self]


_ADVICE = {
    Status.OPTIMAL: "Proved: no plan within the budgets is better.",
    Status.FEASIBLE: "Within every budget; `gap` says how far from the best it can be at most.",
    Status.INFEASIBLE: "Proved: no plan keeps every budget; `achievable` says what each budget would have to be.",
    Status.NO_SOLUTION: "The solver stopped without a plan and without a proof; "
    "give it more time or use solver='exact'.",
}
