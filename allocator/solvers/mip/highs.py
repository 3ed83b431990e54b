"""The whole model as a MIP through HiGHS (scipy): what finds plans under many limits, and in hard cores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import Problem
from allocator.solvers.mip.proving import Answer, solve_whole
from allocator.solvers.mip.quiet import printing_to_stderr
from allocator.solvers.mip.scaling import ScaledProblem
from allocator.solvers.outcome import Effort, Outcome

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

_ATTEMPTS = 4
#: Nodes without any other limit; those of a whole model take about ten milliseconds each.
_DEFAULT_NODES = 2_000
#: What presolving takes, roughly.
_SECONDS_PER_BINARY = 2e-5
_DONE = {0, 2}  # statuses of scipy.optimize.milp: optimal, infeasible


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Hand a problem to HiGHS as one binary per option, and prove the plan that it finds.

    Returns:
        The outcome, with the number of branch-and-bound nodes.
    """
    return solve_whole(problem, effort, find, _SECONDS_PER_BINARY)


def find(problem: Problem, effort: Effort) -> Answer:
    """Ask HiGHS for a plan.

    HiGHS may overstep a limit by its feasibility tolerance. Such an answer is refused: the limit is tightened by the
    overstep and the problem solved again.

    Args:
        effort: Gap, time and node limit.

    Returns:
        What HiGHS says, with the number of branch-and-bound nodes.
    """
    deadline = Deadline(effort.time_limit_s)
    limit, nodes = problem.limit.copy(), 0
    for _ in range(_ATTEMPTS):
        scaled = ScaledProblem(problem, limit)
        result = _run(scaled, effort, deadline)
        nodes += int(result.get("mip_node_count") or 0)
        choice = None if result.x is None else scaled.choice(result.x)
        if choice is None or problem.feasible(choice):
            return Answer(choice, result.status in _DONE, {"nodes": nodes})
        limit -= 2 * np.maximum(problem.used(choice) - problem.limit, 0)
    return Answer(None, False, {"nodes": nodes})


def _run(scaled: ScaledProblem, effort: Effort, deadline: Deadline) -> OptimizeResult:
    # scipy takes as long to import as all else together, and most solves never come here.
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    size = scaled.unit.size
    columns = np.arange(size)
    one_each = csr_array((np.ones(size), (scaled.unit, columns)), shape=(scaled.units, size))
    constraints = [LinearConstraint(one_each, 1, 1)]
    if scaled.limit.size:
        constraints.append(LinearConstraint(csr_array(scaled.spend), -np.inf, scaled.limit))
    asked = {
        "mip_rel_gap": effort.gap,
        "time_limit": deadline.left_s(),  # without what importing took
        "node_limit": effort.most_nodes(_DEFAULT_NODES),
    }
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    with printing_to_stderr():
        return milp(
            scaled.cost,
            integrality=np.ones(size),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options=options,
        )
