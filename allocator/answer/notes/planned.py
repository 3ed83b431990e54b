"""What every note looks at: the request, and the plan that answers it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from allocator.contract.profile import CostTable, Profile
from allocator.contract.request import Request
from allocator.knapsack.compile import Compiled
from allocator.knapsack.deadline import NEVER, Deadline
from allocator.knapsack.problem import FloatArray, IntArray
from allocator.knapsack.tables import find_table, values_of
from allocator.solvers.baselines.uniform import uniform_plan


@dataclass(frozen=True, eq=False)
class Planned:
    """A plan in the words of its request.

    Attributes:
        compiled: The compiled request.
        request: The request.
        choice: (U,) option of each set of units.
        seconds: How long the solver took.
        deadline: When the answer has to be there.
    """

    compiled: Compiled
    request: Request
    choice: IntArray
    seconds: float = 0.0
    deadline: Deadline = NEVER

    @property
    def profile(self) -> Profile:
        """The profile that was planned for."""
        return self.compiled.profile

    @cached_property
    def columns(self) -> IntArray:
        """(L,) format of each layer in the plan."""
        return self._columns_of(self.choice)

    @cached_property
    def uniform(self) -> dict[str, IntArray]:
        """Format → (L,) formats of the plan that gives it, or its nearest, to every layer."""
        problem = self.compiled.problem
        return {
            name: self._columns_of(uniform_plan(problem, column))
            for column, name in enumerate(self.profile.formats)
        }

    @cached_property
    def objective_tables(self) -> dict[str, float]:
        """Cost tables of the first objective, with their weights."""
        weights = self.compiled.objectives[0].weights
        return {name: weight for name, weight in weights.items() if name in self.profile.costs}

    def entries(self, name: str, columns: IntArray) -> FloatArray:
        """Entries of a table that a plan chooses.

        Args:
            columns: (L,) format of each layer.

        Returns:
            (L,), NaN where a layer cannot have the format.
        """
        values = self.values(name)
        picked: FloatArray = values[np.arange(len(columns)), columns]
        return picked

    def values(self, name: str) -> FloatArray:
        """Return the numbers of a table, (L, F), read once."""
        if name not in self._read:
            self._read[name] = values_of(find_table(self.profile, name))
        return self._read[name]

    def errors(self, name: str) -> FloatArray | None:
        """Return the standard errors of a table, (L, F); None where it has none."""
        table = self.profile.costs.get(name)
        if not isinstance(table, CostTable) or table.stderr is None:
            return None
        return np.array(table.stderr, dtype=float)

    @cached_property
    def _read(self) -> dict[str, FloatArray]:
        return {}

    def _columns_of(self, choice: IntArray) -> IntArray:
        compiled = self.compiled
        layers = np.arange(compiled.set_of_layer.size)
        return compiled.formats_of_option[layers, choice[compiled.set_of_layer]]
