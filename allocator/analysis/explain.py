"""Why the plan is as it is: what comes next, what each option would have cost, how simple rules compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np

from allocator.analysis.conflict import find_conflict
from allocator.analysis.explanation import Baseline, Explanation, Move, Option, Reason
from allocator.analysis.stability import assess
from allocator.answer.report import report_outcome
from allocator.answer.solve import SolveProgress, run_solver, solve_compiled
from allocator.bounds.dual import maximise_dual
from allocator.contract.allocation import Allocation
from allocator.contract.errors import Fault, InvalidInputError, pointer
from allocator.contract.patterns import matching
from allocator.contract.profile import Profile, ProfileSource, load_profile
from allocator.contract.request import Request, RequestFields, make_request
from allocator.contract.status import Status
from allocator.knapsack.compile import Compiled, compile_problem
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import (
    BoolArray,
    FloatArray,
    IntArray,
    Problem,
    lagrangian_cost,
    masked_cost,
    weighted,
)
from allocator.solvers import SOLVERS
from allocator.solvers.exact import search as exact
from allocator.solvers.outcome import PROOF_TOLERANCE, Effort


def explain(
    profile: ProfileSource,
    layers: Sequence[str] = (),
    resamples: int = 0,
    seed: int = 0,
    **fields: Unpack[RequestFields],
) -> Explanation:
    """Solve a request and say why its answer is what it is.

    Args:
        profile: A profile, its JSON, or the path of a JSON file.
        layers: Names or globs of the layers whose formats to explain.
        resamples: How often to solve again over resampled tables, to see how sure the plan is; 0 leaves that out.
        seed: Seed of the resamples.
        **fields: The fields of :class:`~allocator.contract.request.Request`.

    Returns:
        The allocation with its reasons.

    Raises:
        InvalidInputError: Profile, request or layers cannot be used.
        MissingPackageError: The solver needs a package that is not installed.
        CertificateError: The solver's plan contradicts the tables.

    Example:
        >>> profile = {
        ...     "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...     "layers": [{"name": "up"}, {"name": "down"}],
        ...     "costs": {"kl": {"values": [[0.5, 0.1], [0.3, 0.1]]}},
        ...     "resources": {"bytes": {"values": [[50, 100], [50, 100]], "unit": "byte"}},
        ... }
        >>> why = explain(profile, ["down"], budgets={"bytes": 150})
        >>> why.allocation.assignment
        {'up': 'int8', 'down': 'int4'}
        >>> why.next_upgrade.changes, round(why.next_upgrade.rate, 9)
        ({'down': 'int8'}, 0.004)
        >>> [(option.format, option.verdict) for option in why.reasons[0].options]
        [('int4', 'chosen'), ('int8', 'worse')]
    """
    return explain_request(load_profile(profile), make_request(fields), layers, resamples, seed)


def explain_request(
    profile: Profile,
    request: Request,
    layers: Sequence[str] = (),
    resamples: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    solving: Callable[[SolveProgress], None] | None = None,
) -> Explanation:
    """Solve a validated request and say why its answer is what it is.

    Args:
        layers: Names or globs of the layers whose formats to explain.
        resamples: How often to solve again over resampled tables; 0 leaves that out.
        seed: Seed of the resamples.
        progress: Told after every resample how many of how many are done.
        solving: Told of better plans and bounds while the request itself is solved.

    Returns:
        The allocation with its reasons.

    Raises:
        InvalidInputError: The request or the layers do not fit the profile.
        MissingPackageError: The solver needs a package that is not installed.
        CertificateError: The solver's plan contradicts the tables.
    """
    SOLVERS.find(request.solver)
    wanted = wanted_layers(profile, layers)
    deadline = Deadline(request.time_limit_s)
    compiled = compile_problem(profile, request)
    outcome, report = run_solver(compiled, request, solving, deadline)
    allocation = report_outcome(compiled, request, outcome, report, deadline)
    baselines, left_out = {}, list(allocation.left_out)
    for name in ("uniform", "greedy"):
        if deadline.passed():
            left_out.append(f"baselines.{name}")
        else:
            baselines[name] = _baseline(compiled, _within(request, deadline), name, allocation)
    if outcome.choice is None:
        conflict = None
        if allocation.status is Status.INFEASIBLE:
            conflict = find_conflict(profile, request, allocation.achievable, deadline)
        return Explanation(
            allocation=allocation, baselines=baselines, conflict=conflict, left_out=tuple(left_out)
        )
    upgrade, downgrade = _moves(compiled, outcome.choice)
    reasons = _reasons(compiled, outcome.choice, wanted, deadline)
    stability = None
    if resamples and deadline.passed():
        left_out.append("stability")
    elif resamples:
        stability = assess(compiled, _within(request, deadline), outcome.choice, resamples, seed, progress)
    return Explanation(
        allocation=allocation,
        next_upgrade=upgrade,
        next_downgrade=downgrade,
        reasons=reasons,
        baselines=baselines,
        stability=stability,
        left_out=tuple(left_out),
    )


def _within(request: Request, deadline: Deadline) -> Request:
    return request.model_copy(update={"time_limit_s": deadline.left_s()})


def wanted_layers(profile: Profile, layers: Sequence[str]) -> list[int]:
    """Find the layers that are to be explained.

    Args:
        layers: Names or globs.

    Returns:
        Their indices.

    Raises:
        InvalidInputError: A name or glob fits no layer.
    """
    names = [layer.name for layer in profile.layers]
    found: dict[int, None] = {}
    for at, pattern in enumerate(layers):
        try:
            found |= dict.fromkeys(matching(pattern, names))
        except ValueError as error:
            raise InvalidInputError(Fault(pointer(("layers", at)), str(error))) from error
    return list(found)


def _baseline(compiled: Compiled, request: Request, solver: str, best: Allocation) -> Baseline:
    answer = solve_compiled(compiled, request.model_copy(update={"solver": solver}))
    if answer.objective is None or best.objective is None:
        return Baseline(objective=answer.objective)
    better, worse = best.objective, answer.objective
    if compiled.objectives[0].maximise:
        better, worse = worse, better
    difference = worse - better
    worse_by = difference / best.objective if best.objective > 0 else None
    return Baseline(objective=answer.objective, difference=difference, worse_by=worse_by)


def _moves(compiled: Compiled, choice: IntArray) -> tuple[Move | None, Move | None]:
    problem = compiled.problem
    units = np.arange(problem.units)
    gain = problem.cost[units, choice][:, None] - masked_cost(problem)  # (U, O)
    step = problem.spend - problem.spend[:, units, choice][:, :, None]  # (R, U, O)
    spread = np.abs(np.where(problem.available, step, 0.0)).max(axis=2).sum(axis=1)  # (R,)
    scale = np.ones(1) if problem.limits == 1 else 1 / np.where(spread > 0, spread, 1.0)
    more = weighted(np.maximum(step, 0), scale) if problem.limits else np.zeros_like(gain)
    less = weighted(np.maximum(-step, 0), scale) if problem.limits else np.zeros_like(gain)
    buys = np.divide(gain, more, out=np.where(gain > 0, np.inf, 0.0), where=(more > 0) & (gain > 0))
    loses = np.divide(-gain, less, out=np.full_like(gain, np.inf), where=(less > 0) & problem.available)
    up, down = int(buys.argmax()), int(loses.argmin())
    return (
        _move(compiled, choice, up, float(buys.flat[up])) if buys.flat[up] > 0 else None,
        _move(compiled, choice, down, float(loses.flat[down])) if np.isfinite(loses.flat[down]) else None,
    )


def _move(compiled: Compiled, choice: IntArray, at: int, rate: float) -> Move:
    problem = compiled.problem
    unit, option = divmod(at, problem.cost.shape[1])
    changed = choice.copy()
    changed[unit] = option
    before, after = compiled.assignment(choice), compiled.assignment(changed)
    sign = -1.0 if compiled.objectives[0].maximise else 1.0
    return Move(
        changes={name: chosen for name, chosen in after.items() if chosen != before[name]},
        objective=sign * float(problem.cost[unit, option] - problem.cost[unit, choice[unit]]),
        spend=_spend(compiled, problem.spend[:, unit, option] - problem.spend[:, unit, choice[unit]]),
        rate=rate if np.isfinite(rate) else None,
    )


def _spend(compiled: Compiled, amounts: FloatArray) -> dict[str, float]:
    by_scope = {
        row.scope: sign * amount
        for (row, sign), amount in zip(compiled.sides, amounts.tolist(), strict=True)
        if not row.peak
    }
    return {row.name: by_scope[row.scope] * row.per_unit for row in compiled.rows if row.scope in by_scope}


def _reasons(
    compiled: Compiled, choice: IntArray, layers: Sequence[int], deadline: Deadline
) -> tuple[Reason, ...]:
    problem = compiled.problem
    prices = maximise_dual(problem, deadline=deadline).multipliers
    lagrangian = lagrangian_cost(problem, prices)  # (U, O)
    reduced = lagrangian - lagrangian.min(axis=1, keepdims=True)
    return tuple(_reason(compiled, choice, layer, reduced, deadline) for layer in layers)


def _reason(
    compiled: Compiled, choice: IntArray, layer: int, reduced: FloatArray, deadline: Deadline
) -> Reason:
    unit = int(compiled.set_of_layer[layer])
    having = compiled.formats_of_option[layer] == np.arange(len(compiled.profile.formats))[:, None]  # (F, O)
    having = having & compiled.problem.available[unit]
    together = np.flatnonzero(compiled.set_of_layer == unit).tolist()
    return Reason(
        layer=compiled.profile.layers[layer].name,
        together=tuple(compiled.profile.layers[index].name for index in together),
        options=tuple(
            _option(compiled, choice, (unit, columns), name, reduced, deadline)
            if columns.any()
            else Option(format=name, chosen=False, verdict="beaten" if allowed else "ruled out")
            for name, columns, allowed in zip(
                compiled.profile.formats, having, compiled.allowed[layer], strict=True
            )
        ),
    )


def _option(
    compiled: Compiled,
    choice: IntArray,
    at: tuple[int, BoolArray],
    name: str,
    reduced: FloatArray,
    deadline: Deadline,
) -> Option:
    unit, having = at
    problem, goal = compiled.problem, compiled.objectives[0]
    chosen = bool(having[choice[unit]])
    best = int(choice[unit]) if chosen else int(np.where(having, reduced[unit], np.inf).argmin())
    bound, verdict = problem.objective(choice), "chosen"
    if not chosen:
        bound, verdict = _forced(problem, choice, unit, having, deadline)
    return Option.model_validate(
        {
            "format": name,
            "chosen": chosen,
            "objective": (-1.0 if goal.maximise else 1.0) * float(problem.cost[unit, best]),
            "spend": _spend(compiled, problem.spend[:, unit, best]),
            "reduced_cost": float(reduced[unit, best]),
            "best_with": goal.reported(bound) if np.isfinite(bound) else None,
            "verdict": verdict,
        }
    )


def _forced(
    problem: Problem, choice: IntArray, unit: int, having: BoolArray, deadline: Deadline
) -> tuple[float, str]:
    if deadline.passed():
        return -np.inf, "open"
    available = problem.available.copy()
    available[unit] = having
    outcome = exact.solve(replace(problem, available=available), Effort(time_limit_s=deadline.left_s()))
    if outcome.status is Status.INFEASIBLE:
        return outcome.bound, "impossible"
    objective = problem.objective(choice)
    if outcome.bound > objective + PROOF_TOLERANCE * max(abs(objective), abs(outcome.bound)):
        return outcome.bound, "worse"
    return outcome.bound, "as good" if outcome.status is Status.OPTIMAL else "open"
