"""The whole model as a MIP through PuLP and CBC: a cross-check with the solver most tools of the field use.

PuLP's ``status`` reads Optimal whenever CBC found any plan before it stopped; only ``sol_status`` tells a proof.
"""

from __future__ import annotations

import math

import numpy as np
import pulp

from allocator.bounds.dual import maximise_dual
from allocator.contract.errors import require
from allocator.contract.status import Status
from allocator.knapsack.problem import Problem
from allocator.solvers.mip.scaling import ScaledProblem
from allocator.solvers.outcome import Effort, Outcome, found, infeasible


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Solve the whole model with CBC.

    CBC reports no bound, so a plan without a proof comes with the Lagrangian bound. Its time limit is checked between
    nodes only and may be overrun.

    Args:
        problem: The problem.
        effort: Gap and time limit.

    Returns:
        The outcome.

    Raises:
        MissingPackageError: CBC is not installed.
    """
    scaled = ScaledProblem(problem, problem.limit)
    model = pulp.LpProblem("allocation", pulp.LpMinimize)
    taken = [model.add_variable(f"x{index}", cat=pulp.LpBinary) for index in range(scaled.unit.size)]
    model += pulp.LpAffineExpression(zip(taken, scaled.cost.tolist(), strict=True))
    for unit in range(scaled.units):
        model += pulp.lpSum(taken[index] for index in np.flatnonzero(scaled.unit == unit)) == 1
    for row, limit in zip(scaled.spend, scaled.limit, strict=True):
        model += pulp.LpAffineExpression(zip(taken, row.tolist(), strict=True)) <= float(limit)
    limit_s = None if effort.time_limit_s is None else max(1, math.ceil(effort.time_limit_s))
    # PuLP looks for CBC on the PATH, where a virtual environment that is not activated does not stand.
    cbc = require("cbcbox", "solvers").cbc_bin_path()
    model.solve(pulp.COIN_CMD(path=cbc, msg=False, gapRel=effort.gap, gapAbs=0, timeLimit=limit_s))
    return _outcome(problem, scaled, model, taken, effort)


def _outcome(
    problem: Problem,
    scaled: ScaledProblem,
    model: pulp.LpProblem,
    taken: list[pulp.LpVariable],
    effort: Effort,
) -> Outcome:
    if model.status == pulp.LpStatusInfeasible:
        return infeasible()
    bound = maximise_dual(problem).bound
    values = np.array([np.nan if variable.varValue is None else variable.varValue for variable in taken])
    choice = scaled.choice(values)
    if choice is None or not problem.feasible(choice):
        return Outcome(Status.NO_SOLUTION, None, bound)
    objective = problem.objective(choice)
    proved = model.sol_status == pulp.LpSolutionOptimal and effort.gap == 0
    return found(problem, choice, objective if proved else bound)
