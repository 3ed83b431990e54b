"""Solvers by name. To add one: write ``allocator/solvers/<name>.py`` with ``solve`` and list it here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from allocator.contract.errors import Fault, InvalidInputError, require, unknown
from allocator.contract.versions import installed_version
from allocator.knapsack.bands import Bands
from allocator.knapsack.components import connected_components
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import Problem
from allocator.solvers.outcome import Effort, Outcome, Solver

__all__ = ["SOLVERS", "Deadline", "Effort", "Entry", "Outcome", "Solver", "find_solver"]


@dataclass(frozen=True)
class Entry:
    """A solver that can be asked for by name.

    Attributes:
        name: The name.
        module: Module that defines ``solve(problem, effort) -> Outcome``.
        summary: One line for ``--help`` and the OpenAPI document.
        package: Import name of the optional package it needs.
        distribution: Distribution whose version is reported.
    """

    name: str
    module: str
    summary: str
    package: str | None = None
    distribution: str = "bitalloc"

    def load(self) -> Solver:
        """Import the solver.

        Returns:
            Its ``solve`` function.
        """
        if self.package is not None:
            require(self.package, "solvers")
        solver: Solver = import_module(self.module).solve
        return solver

    def prepare(self, problem: Problem) -> Solver:
        """Do once what solves of a problem under other limits share.

        Returns:
            A solver of this problem under other limits. Where the solver's module has no ``prepare``, nothing is
            shared.
        """
        solver = self.load()
        module = import_module(self.module)
        if not hasattr(module, "prepare"):
            return solver
        prepared = module.prepare(problem)
        return lambda limited, effort: module.solve_prepared(prepared, limited.limit, effort)

    def chosen(self, problem: Problem) -> tuple[Entry, str | None]:
        """Settle on the solver that will run.

        Returns:
            The entry itself, or for ``auto`` the one that suits the problem, and why.
        """
        if self.name != "auto":
            return self, None
        carried = _most_carried(problem)
        apart = "" if carried == problem.limits else f" of {problem.limits}, taken apart,"
        if carried <= MOST_LIMITS_IN_STATES:
            count = f"1 limit{apart} fits" if carried == 1 else f"{carried} limits{apart} fit"
            return SOLVERS["exact"], f"exact: {count} into the states of the expanding core"
        why = f"highs: {carried} limits{apart} are too many for the expanding core, which takes {MOST_LIMITS_IN_STATES}"
        return SOLVERS["highs"], why

    def version(self) -> str:
        """Version of the distribution that does the work.

        Returns:
            The version, or ``"unknown"`` when running from a tree that is not installed.
        """
        return installed_version(self.distribution)


def _most_carried(problem: Problem) -> int:
    # What has nothing in common is solved apart, and the two sides of a band are one sum.
    if problem.limits <= MOST_LIMITS_IN_STATES:
        return problem.limits
    return max(Bands.of(part.problem).upper.size for part in connected_components(problem))


#: Limits that the expanding core carries in its states; with more of them too few states are alike.
MOST_LIMITS_IN_STATES = 8


_ENTRIES = (
    Entry(
        "auto",
        "allocator.solvers.exact.search",
        "exact where it suits the problem, else highs; says which and why",
    ),
    Entry("exact", "allocator.solvers.exact.search", "proved optimum by the expanding core"),
    Entry(
        "highs", "allocator.solvers.mip.highs", "the whole model as a MIP through HiGHS", distribution="scipy"
    ),
    Entry(
        "pulp", "allocator.solvers.mip.pulp", "the whole model as a MIP through PuLP and CBC", "pulp", "pulp"
    ),
    Entry(
        "cpsat",
        "allocator.solvers.mip.cpsat",
        "the whole model through OR-Tools CP-SAT",
        "ortools",
        "ortools",
    ),
    Entry("greedy", "allocator.solvers.baselines.greedy", "best marginal gain per unit spent; a baseline"),
    Entry("uniform", "allocator.solvers.baselines.uniform", "the best single format that fits; a baseline"),
    Entry(
        "convex",
        "allocator.solvers.baselines.relaxation",
        "real-valued bits in closed form, rounded; a baseline",
    ),
)
SOLVERS = {entry.name: entry for entry in _ENTRIES}


def find_solver(name: str) -> Entry:
    """Look a solver up.

    Returns:
        The entry.

    Raises:
        InvalidInputError: There is no such solver; the known ones are listed.
    """
    if name not in SOLVERS:
        raise InvalidInputError(Fault("/solver", unknown(name, SOLVERS, "solver")))
    return SOLVERS[name]
