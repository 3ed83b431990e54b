"""Solvers by name. To add one: write ``allocator/solvers/<name>.py`` with ``solve`` and list it here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, metadata

from allocator.errors import Fault, InvalidInputError, require, unknown
from allocator.solvers.outcome import Deadline, Effort, Outcome, Solver

__all__ = ["SOLVERS", "Deadline", "Effort", "Entry", "Outcome", "Solver", "find_solver"]


@dataclass(frozen=True)
class Entry:
    """A solver that can be asked for by name.

    Attributes:
        module: Module that defines ``solve(problem, effort) -> Outcome``.
        summary: One line for ``--help`` and the OpenAPI document.
        package: Import name of the optional package it needs.
        distribution: Distribution whose version is reported.
    """

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

    def version(self) -> str:
        """Version of the distribution that does the work.

        Returns:
            The version, or ``"unknown"`` when running from a tree that is not installed.
        """
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return "unknown"


SOLVERS = {
    "exact": Entry("allocator.solvers.exact", "proved optimum: expanding core, or a MIP on the core"),
    "highs": Entry("allocator.solvers.highs", "the whole model as a MIP through HiGHS", distribution="scipy"),
    "pulp": Entry("allocator.solvers.pulp", "the whole model as a MIP through PuLP and CBC", "pulp", "pulp"),
    "cpsat": Entry(
        "allocator.solvers.cpsat", "the whole model through OR-Tools CP-SAT", "ortools", "ortools"
    ),
    "greedy": Entry("allocator.solvers.greedy", "best marginal gain per unit spent; a baseline"),
    "uniform": Entry("allocator.solvers.uniform", "the best single format that fits; a baseline"),
}


def find_solver(name: str) -> Entry:
    """Look a solver up.

    Args:
        name: Its name.

    Returns:
        The entry.

    Raises:
        InvalidInputError: There is no such solver; the known ones are listed.
    """
    if name not in SOLVERS:
        raise InvalidInputError(Fault("/solver", unknown(name, SOLVERS, "solver")))
    return SOLVERS[name]
