"""The whole model handed to a MIP solver the way its users do: one binary per option, the tables as they are.

Each function takes a relative gap (None leaves the solver's default) and a time limit, and gives back the plan and
what the solver calls it. Nothing of ``allocator.solvers`` is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pulp
from ortools.linear_solver import pywraplp
from ortools.sat.python import cp_model
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from allocator.knapsack.problem import FloatArray, IntArray, Problem

Answer: TypeAlias = tuple[IntArray | None, str]
Whole: TypeAlias = Callable[[Problem, float | None, float], Answer]

#: CP-SAT takes integers only; costs are scaled so that the largest is this.
_CPSAT_SCALE = 1e9


def cbc(problem: Problem, gap: float | None, time_limit_s: float) -> Answer:
    """PuLP with CBC.

    Args:
        problem: The problem; all options available.
        gap: Relative gap, None for the default.

    Returns:
        Plan and status.
    """
    import cbcbox

    model = pulp.LpProblem("plan", pulp.LpMinimize)
    taken = [
        [pulp.LpVariable(f"x_{unit}_{option}", cat="Binary") for option in range(problem.cost.shape[1])]
        for unit in range(problem.units)
    ]
    flat = [variable for row in taken for variable in row]
    model += pulp.LpAffineExpression(list(zip(flat, problem.cost.ravel().tolist(), strict=True)))
    for row in taken:
        model += pulp.lpSum(row) == 1
    for spend, limit in zip(problem.spend, problem.limit, strict=True):
        terms = list(zip(flat, spend.ravel().tolist(), strict=True))
        model += pulp.LpAffineExpression(terms) <= float(limit)
    path = str(cbcbox.cbc_bin_path())
    model.solve(pulp.COIN_CMD(path=path, msg=False, gapRel=gap, timeLimit=time_limit_s))
    values = np.array([variable.value() or 0.0 for variable in flat])
    return _choice(problem, values), pulp.LpSolution[model.sol_status]


def highs(problem: Problem, gap: float | None, time_limit_s: float) -> Answer:
    """HiGHS through scipy.

    Args:
        problem: The problem; all options available.
        gap: Relative gap, None for the default.

    Returns:
        Plan and status.
    """
    units, options = problem.cost.shape
    one_each = csr_array(
        (np.ones(units * options), (np.repeat(np.arange(units), options), np.arange(units * options)))
    )
    constraints = [
        LinearConstraint(one_each, 1, 1),
        LinearConstraint(
            csr_array(problem.spend.reshape(problem.limits, -1)),
            np.full(problem.limits, -np.inf),
            problem.limit,
        ),
    ]
    chosen = {} if gap is None else {"mip_rel_gap": gap}
    result = milp(
        problem.cost.ravel(),
        integrality=np.ones(units * options),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"time_limit": time_limit_s, **chosen},
    )
    status = "Optimal" if result.status == 0 else "Time limit"
    return (None if result.x is None else _choice(problem, result.x)), status


def cpsat(problem: Problem, gap: float | None, time_limit_s: float) -> Answer:
    """CP-SAT of OR-Tools, on costs scaled to integers.

    Args:
        problem: The problem; all options available, whole spends.
        gap: Relative gap, None for the default.

    Returns:
        Plan and status.
    """
    model = cp_model.CpModel()
    flat = [model.new_bool_var("") for _ in range(problem.cost.size)]
    options = problem.cost.shape[1]
    for unit in range(problem.units):
        model.add_exactly_one(flat[unit * options : (unit + 1) * options])
    for spend, limit in zip(problem.spend, problem.limit, strict=True):
        whole = np.ceil(spend.ravel()).astype(np.int64)
        model.add(cp_model.LinearExpr.weighted_sum(flat, whole) <= int(limit))
    scale = _CPSAT_SCALE / float(np.abs(problem.cost).max())
    costs = np.rint(problem.cost.ravel() * scale).astype(np.int64)
    model.minimize(cp_model.LinearExpr.weighted_sum(flat, costs))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = time_limit_s
    if gap is not None:
        solver.parameters.relative_gap_limit = gap
    status = solver.solve(model)
    if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
        return None, solver.status_name(status)
    values = np.array([solver.boolean_value(variable) for variable in flat], dtype=float)
    return _choice(problem, values), solver.status_name(status).capitalize()


def scip(problem: Problem, gap: float | None, time_limit_s: float) -> Answer:
    """SCIP through OR-Tools.

    Args:
        problem: The problem; all options available.
        gap: Relative gap, None for the default.

    Returns:
        Plan and status.
    """
    solver = pywraplp.Solver.CreateSolver("SCIP")
    flat = [solver.BoolVar("") for _ in range(problem.cost.size)]
    options = problem.cost.shape[1]
    for unit in range(problem.units):
        row = solver.Constraint(1, 1)
        for variable in flat[unit * options : (unit + 1) * options]:
            row.SetCoefficient(variable, 1)
    for spend, limit in zip(problem.spend, problem.limit, strict=True):
        row = solver.Constraint(-solver.infinity(), float(limit))
        for variable, value in zip(flat, spend.ravel().tolist(), strict=True):
            row.SetCoefficient(variable, value)
    goal = solver.Objective()
    for variable, value in zip(flat, problem.cost.ravel().tolist(), strict=True):
        goal.SetCoefficient(variable, value)
    goal.SetMinimization()
    solver.SetTimeLimit(int(time_limit_s * 1000))
    parameters = pywraplp.MPSolverParameters()
    if gap is not None:
        parameters.SetDoubleParam(pywraplp.MPSolverParameters.RELATIVE_MIP_GAP, gap)
    status = solver.Solve(parameters)
    if status not in {pywraplp.Solver.OPTIMAL, pywraplp.Solver.FEASIBLE}:
        return None, "No plan"
    values = np.array([variable.solution_value() for variable in flat])
    return _choice(problem, values), "Optimal" if status == pywraplp.Solver.OPTIMAL else "Feasible"


WHOLE: dict[str, Whole] = {"PuLP/CBC": cbc, "HiGHS": highs, "CP-SAT": cpsat, "SCIP": scip}


def _choice(problem: Problem, values: FloatArray) -> IntArray | None:
    taken = values.reshape(problem.cost.shape) > 0.5
    return taken.argmax(axis=1) if (taken.sum(axis=1) == 1).all() else None
