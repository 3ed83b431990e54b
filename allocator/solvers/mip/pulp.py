"""The whole model as a MIP through PuLP and CBC: a cross-check with the solver most tools of the field use.

PuLP's ``status`` reads Optimal whenever CBC found any plan before it stopped; only ``sol_status`` tells a proof.
"""

from __future__ import annotations

import numpy as np
import pulp

from allocator.contract.errors import require
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import Problem
from allocator.solvers.mip.proving import Answer, solve_whole
from allocator.solvers.mip.scaling import ScaledProblem
from allocator.solvers.outcome import Effort, Outcome

#: Nodes without any other limit.
_DEFAULT_NODES = 2_000
#: What writing and reading the files of CBC takes, roughly.
_SECONDS_PER_BINARY = 1e-4


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Solve the whole model with CBC, and prove the plan that it finds.

    CBC's time limit is checked between nodes only and may be overrun.

    Returns:
        The outcome.

    Raises:
        MissingPackageError: CBC is not installed.
    """
    return solve_whole(problem, effort, find, _SECONDS_PER_BINARY)


def find(problem: Problem, effort: Effort) -> Answer:
    """Ask CBC for a plan.

    Returns:
        What CBC says.
    """
    deadline = Deadline(effort.time_limit_s)
    scaled = ScaledProblem(problem, problem.limit)
    model = pulp.LpProblem("allocation", pulp.LpMinimize)
    taken = [model.add_variable(f"x{index}", cat=pulp.LpBinary) for index in range(scaled.unit.size)]
    model += pulp.LpAffineExpression(zip(taken, scaled.cost.tolist(), strict=True))
    for first, end in scaled.spans():
        model += pulp.lpSum(taken[first:end]) == 1
    for row, limit in zip(scaled.spend, scaled.limit, strict=True):
        model += pulp.LpAffineExpression(zip(taken, row.tolist(), strict=True)) <= float(limit)
    # PuLP looks for CBC on the PATH, where a virtual environment that is not activated does not stand.
    cbc = require("cbcbox", "solvers").cbc_bin_path()
    model.solve(
        pulp.COIN_CMD(
            path=cbc,
            msg=False,
            gapRel=effort.gap,
            gapAbs=0,
            timeLimit=deadline.left_s(),
            maxNodes=effort.most_nodes(_DEFAULT_NODES),
        )
    )
    if model.status == pulp.LpStatusInfeasible:
        return Answer(None, finished=True)
    values = np.array([np.nan if variable.varValue is None else variable.varValue for variable in taken])
    choice = scaled.choice(values)
    kept = choice is not None and problem.feasible(choice)
    return Answer(choice if kept else None, model.sol_status == pulp.LpSolutionOptimal)
