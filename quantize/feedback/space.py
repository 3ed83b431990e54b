"""The plans of a request as rows of numbers, and what the table says about them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from allocator import Fault, InvalidInputError, Profile, Request
from allocator.knapsack.compile import Compiled, compile_problem
from allocator.knapsack.problem import BoolArray, FloatArray, IntArray

#: An entry of the table counts at least this share of the median entry: a cost of nothing cannot be corrected.
_FLOOR = 1e-3


@dataclass(frozen=True, eq=False)
class Space:
    """Plans are (N, U) options of units; a plan is within the space when it keeps every limit of the request.

    Attributes:
        compiled: The request on the profile.
        cost: (U, O) the table, with its smallest entries lifted; what is not available holds +inf.
    """

    compiled: Compiled
    cost: FloatArray

    @property
    def units(self) -> int:
        """Number of units U."""
        return self.compiled.problem.units

    @property
    def size(self) -> int:
        """Number of plans, within limits or not."""
        return math.prod(self.compiled.problem.available.sum(axis=1).tolist())

    def predicted(self, plans: IntArray) -> FloatArray:
        """Add up the table.

        Args:
            plans: (N, U).

        Returns:
            (N,), above zero.
        """
        total: FloatArray = self._entries(plans).sum(axis=1)
        return total

    def shares(self, plans: IntArray) -> csr_array:
        """Share of each entry of the table in what is predicted for each plan.

        Args:
            plans: (N, U).

        Returns:
            (N, U·O), U entries to a row that add up to 1.
        """
        entries = self._entries(plans)
        return self._spread(plans, entries / entries.sum(axis=1, keepdims=True))

    def choices(self, plans: IntArray) -> csr_array:
        """Mark what each plan chooses: the product of two such rows is the number of units that agree.

        Args:
            plans: (N, U).

        Returns:
            (N, U·O), U ones to a row.
        """
        return self._spread(plans, np.ones(plans.shape))

    def formats(self, plans: IntArray) -> IntArray:
        """Look up the format of every layer.

        Args:
            plans: (N, U).

        Returns:
            (N, L) columns of the profile.
        """
        of_layer, known = self.compiled.set_of_layer, self.compiled.formats_of_option
        columns: IntArray = known[np.arange(len(of_layer)), plans[:, of_layer]]
        return columns

    def within(self, plans: IntArray) -> BoolArray:
        """Tell which plans keep every limit.

        Args:
            plans: (N, U).

        Returns:
            (N,).
        """
        problem, at = self.compiled.problem, np.arange(self.units)
        used = problem.spend[:, at, plans].sum(axis=2)  # (R, N)
        kept: BoolArray = np.all(problem.available[at, plans], axis=1)
        kept &= np.all(used <= problem.limit[:, None], axis=0)
        return kept

    def with_cost(self, cost: FloatArray) -> Space:
        """The same plans under another table.

        Args:
            cost: (U, O).

        Returns:
            The space.
        """
        return replace(self, cost=cost)

    def _entries(self, plans: IntArray) -> FloatArray:
        entries: FloatArray = self.cost[np.arange(self.units), plans]
        return entries

    def _spread(self, plans: IntArray, values: FloatArray) -> csr_array:
        options = self.cost.shape[1]
        columns = plans + np.arange(self.units) * options
        starts = np.arange(len(plans) + 1) * self.units
        return csr_array((values.ravel(), columns.ravel(), starts), (len(plans), self.units * options))


def space_of(profile: Profile, request: Request) -> Space:
    """Read a request.

    Returns:
        Its plans.

    Raises:
        InvalidInputError: The request does not fit the profile, or its objective is no loss: several tables in order,
            one where higher is better, or one without a value above zero.
    """
    compiled = compile_problem(profile, request)
    goals, problem = compiled.objectives, compiled.problem
    if len(goals) > 1 or goals[0].maximise:
        detail = (
            "expected one loss (lower is better): what is measured is compared with what the table adds up to"
        )
        raise InvalidInputError(Fault("/objective", detail))
    known = problem.cost[problem.available]
    if not (known > 0).any():
        detail = f"{goals[0].label} has no cost above zero, so there is nothing to correct"
        raise InvalidInputError(Fault("/objective", detail))
    least = _FLOOR * float(np.median(known[known > 0]))
    return Space(compiled, np.where(problem.available, np.maximum(problem.cost, least), np.inf))
