"""The tables of a profile: looking them up, and what an objective means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from allocator.contract.errors import Fault, InvalidInputError, pointer, unknown
from allocator.contract.profile import CostTable, Profile, ResourceTable
from allocator.contract.request import Request
from allocator.knapsack.problem import FloatArray

WEIGHT_BYTES = "weight_bytes"
Table = CostTable | ResourceTable


@dataclass(frozen=True)
class Objective:
    """What is minimised (or maximised, for tables where higher is better).

    Attributes:
        weights: Table name to its weight in the sum.
        maximise: Whether higher is better.
        constant: Part of the objective that no choice changes.
        caution: Standard errors that count against every cost.
    """

    weights: Mapping[str, float]
    maximise: bool
    constant: float
    caution: float

    @property
    def label(self) -> str:
        """The objective as people write it: ``kl`` or ``1·kl + 0.2·fisher``."""
        if len(self.weights) == 1:
            return next(iter(self.weights))
        return " + ".join(f"{weight:g}·{name}" for name, weight in self.weights.items())

    def reported(self, value: float) -> float:
        """Turn a minimised, constant-free value into the one the user sees.

        Args:
            value: Objective or bound of the problem.

        Returns:
            The same in the direction and unit of the table.
        """
        return (-value if self.maximise else value) + self.constant


def resolve_objectives(profile: Profile, request: Request) -> tuple[Objective, ...]:
    """Find the tables that a request wants minimised, in falling order of importance.

    Args:
        request: The request; without an objective the profile must have exactly one cost table.

    Returns:
        At least one objective.

    Raises:
        InvalidInputError: A table is unknown, ambiguous, combines by maximum, or directions are mixed.
    """
    wanted = request.objective
    if wanted is None:
        if len(profile.costs) != 1:
            known = ", ".join(map(repr, profile.costs)) or "none"
            detail = f"name a table to minimise; the profile has these costs: {known}"
            raise InvalidInputError(Fault("/objective", detail))
        wanted = next(iter(profile.costs))
    if isinstance(wanted, tuple):
        return tuple(
            _objective(profile, goal, ("objective", at), request.caution) for at, goal in enumerate(wanted)
        )
    return (_objective(profile, wanted, ("objective",), request.caution),)


def _objective(
    profile: Profile, goal: str | Mapping[str, float], where: tuple[str | int, ...], caution: float
) -> Objective:
    weights = {goal: 1.0} if isinstance(goal, str) else dict(goal)
    tables = {
        name: _objective_table(
            profile, name, weight, pointer(where if isinstance(goal, str) else (*where, name))
        )
        for name, weight in weights.items()
    }
    directions = {is_maximised(table) for table in tables.values()}
    if len(directions) > 1:
        detail = "tables where lower is better and tables where higher is better cannot be added up"
        raise InvalidInputError(Fault(pointer(where), detail))
    constant = sum(weight * constant_of(tables[name]) for name, weight in weights.items())
    return Objective(weights, directions.pop(), constant, caution)


def _objective_table(profile: Profile, name: str, weight: float, where: str) -> Table:
    table = named_table(profile, name, where, "objective")
    if weight <= 0:
        raise InvalidInputError(Fault(where, f"expected a weight above 0, got {weight!r}"))
    if combines_by_max(table):
        raise InvalidInputError(Fault(where, f"{name!r} combines by max and can only be a budget"))
    return table


def named_table(profile: Profile, name: str, where: str, role: str, more: tuple[str, ...] = ()) -> Table:
    """Look up a table that a user named.

    Args:
        where: Pointer to the name.
        role: What the table is named for ("budget").
        more: Other names that would have been accepted.

    Returns:
        The table.

    Raises:
        InvalidInputError: There is no such table; the known ones are listed.
    """
    found = profile.costs.get(name) or profile.resources.get(name)
    if found is None:
        raise InvalidInputError(
            Fault(where, unknown(name, [*profile.costs, *profile.resources, *more], role))
        )
    return found


def find_table(profile: Profile, name: str) -> Table:
    """Look up a table by a name that is known to exist.

    Args:
        name: Name of a cost or a resource.

    Returns:
        The table.
    """
    return profile.costs.get(name) or profile.resources[name]


def values_of(table: Table) -> FloatArray:
    """The numbers of a table.

    Args:
        table: A cost or resource table.

    Returns:
        (L, F); NaN where a layer cannot have a format.
    """
    return np.array(table.values, dtype=float)


def combines_by_max(table: Table) -> bool:
    """Tell whether the largest row of a table counts rather than the sum.

    Args:
        table: A cost or resource table.

    Returns:
        True for resources such as peak memory.
    """
    return isinstance(table, ResourceTable) and table.combine == "max"


def is_maximised(table: Table) -> bool:
    """Tell whether higher values of a table are better.

    Args:
        table: A cost or resource table.

    Returns:
        True for cost tables such as SQNR.
    """
    return isinstance(table, CostTable) and table.better == "higher"


def constant_of(table: Table) -> float:
    """What a table adds whatever is chosen.

    Args:
        table: A cost or resource table.

    Returns:
        The constant of a resource; 0 for costs.
    """
    return table.constant if isinstance(table, ResourceTable) else 0.0
