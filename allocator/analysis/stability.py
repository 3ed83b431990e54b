r"""How far a plan depends on noise in its cost table: the request solved again over resampled tables.

Each resample draws every cost from a normal distribution around its value with its standard error, independently. For
each layer it counts how often its format stays, and what knowing its costs exactly would be worth:

.. math:: V_l = E \max_f \big(0,\; \varepsilon_{l,f^*} - \varepsilon_{l,f} - r_{l,f}\big)

where f* is its format, ε the errors and r the reduced costs: what the objective would gain, on average, if the layer
alone could change its mind (an upper estimate, for reduced costs are what a change costs at least).

Source: the expected value of partial perfect information, H. Raiffa and R. Schlaifer, "Applied Statistical Decision
Theory", 1961.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Unpack

import numpy as np

from allocator.answer.report import report_outcome
from allocator.answer.solve import run_solver
from allocator.bounds.dual import maximise_dual
from allocator.contract.errors import Fault, InvalidInputError
from allocator.contract.profile import CostTable, ProfileSource, load_profile
from allocator.contract.request import Request, RequestFields, make_request
from allocator.contract.schema import Strict
from allocator.knapsack.compile import Compiled, compile_problem
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import FloatArray, IntArray, lagrangian_cost
from allocator.knapsack.tables import find_table
from allocator.solvers import SOLVERS
from allocator.solvers.outcome import Effort


class LayerStability(Strict):
    """How sure a layer's format is.

    Attributes:
        layer: The layer.
        format: Its format in the plan.
        kept: Share of resamples in which it has this format.
        shares: Format to the share of resamples in which the layer has it; formats that never came up are left out.
        worth: What knowing the layer's costs exactly would gain on average, in units of the objective, at most.
    """

    layer: str
    format: str
    kept: float
    shares: dict[str, float]
    worth: float


class Stability(Strict):
    """How sure a plan is.

    Attributes:
        resamples: How often the request was solved again; fewer than asked for where time ran out.
        kept: Share of resamples that gave the same plan.
        objective_stderr: Standard error of the plan's objective.
        regret: What the plan's objective is worse than the best plan's on average over the resamples.
        layers: In the order of the profile.
        measure_next: Layers that deserve more measurement, most worth first; those worth nothing are left out.
    """

    resamples: int
    kept: float
    objective_stderr: float
    regret: float
    layers: tuple[LayerStability, ...]
    measure_next: tuple[str, ...]


def stability(
    profile: ProfileSource,
    resamples: int = 500,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **fields: Unpack[RequestFields],
) -> Stability:
    """Solve a request and find out how sure its plan is.

    Args:
        profile: A profile, its JSON, or the path of a JSON file.
        resamples: How often to solve again.
        seed: Seed of the resamples.
        progress: Told after every resample how many of how many are done.
        **fields: The fields of :class:`~allocator.contract.request.Request`; ``time_limit_s`` holds for all solves
            together.

    Returns:
        How sure the plan is, as a whole and layer by layer.

    Raises:
        InvalidInputError: Profile or request cannot be used, the objective has no standard errors, or no plan exists.
        MissingPackageError: The solver needs a package that is not installed.
        CertificateError: The solver's plan contradicts the tables.

    Example:
        >>> profile = {
        ...     "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...     "layers": [{"name": "up"}, {"name": "down"}],
        ...     "costs": {"kl": {"values": [[0.5, 0.1], [0.3, 0.1]], "stderr": [[0.3, 0.0], [0.0, 0.0]]}},
        ...     "resources": {"bytes": {"values": [[50, 100], [50, 100]], "unit": "byte"}},
        ... }
        >>> sure = stability(profile, resamples=200, budgets={"bytes": 150})
        >>> [layer.format for layer in sure.layers], 0.6 < sure.kept < 0.9, sure.measure_next
        (['int8', 'int4'], True, ('up',))
    """
    loaded, request = load_profile(profile), make_request(fields)
    SOLVERS.find(request.solver)
    compiled = compile_problem(loaded, request)
    outcome, report = run_solver(compiled, request)
    allocation = report_outcome(compiled, request, outcome, report)
    if outcome.choice is None:
        detail = f"there is no plan to test: {allocation.advice}"
        raise InvalidInputError(Fault("/budgets", detail))
    return assess(compiled, request, outcome.choice, resamples, seed, progress)


def assess(
    compiled: Compiled,
    request: Request,
    choice: IntArray,
    resamples: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Stability:
    """Find out how sure a plan is.

    Args:
        request: The request; its time limit holds for all resamples together.
        choice: (U,) the plan.
        resamples: How often to solve again.
        seed: Seed of the resamples.
        progress: Told after every resample how many of how many are done.

    Returns:
        How sure it is.

    Raises:
        InvalidInputError: There are too few resamples, or the objective has no standard errors.
    """
    if resamples < 2:
        raise InvalidInputError(Fault("/resamples", f"expected at least 2, got {resamples}"))
    noise = _stderr(compiled)
    found = _resample(compiled, request, choice, noise, (resamples, seed), progress)
    return _summary(compiled, choice, noise, *found)


def _stderr(compiled: Compiled) -> FloatArray:
    # (L, F) standard error of each layer's part of the objective.
    objective, profile = compiled.objectives[0], compiled.profile
    variance = np.zeros((len(profile.layers), len(profile.formats)))
    for name, weight in objective.weights.items():
        table = find_table(profile, name)
        if isinstance(table, CostTable) and table.stderr is not None:
            variance += (weight * np.nan_to_num(np.array(table.stderr, dtype=float))) ** 2
    if not variance.any():
        detail = (
            f"the tables of {objective.label!r} have no standard errors; measure them with several samples"
        )
        raise InvalidInputError(Fault("/objective", detail))
    return np.sqrt(variance)


def _resample(
    compiled: Compiled,
    request: Request,
    choice: IntArray,
    noise: FloatArray,
    draws: tuple[int, int],
    progress: Callable[[int, int], None] | None,
) -> tuple[IntArray, FloatArray, FloatArray]:
    problem = compiled.problem
    run = SOLVERS.find(request.solver).chosen(problem)[0].load()
    deadline = Deadline(request.time_limit_s)
    resamples, seed = draws
    rng = np.random.default_rng(seed)
    units = np.arange(problem.units)
    reduced = _reduced(compiled, deadline)
    choices: list[IntArray] = []
    losses: list[float] = []
    worths: list[FloatArray] = []
    for done in range(1, resamples + 1):
        if len(choices) > 1 and deadline.passed():
            break
        error = _by_option(compiled, noise * rng.standard_normal(noise.shape))  # (U, O)
        drawn = replace(problem, cost=problem.cost + error)
        again = run(drawn, Effort(request.gap, deadline.left_s())).choice
        if again is not None:
            choices.append(again)
            losses.append(drawn.objective(choice) - drawn.objective(again))
            worths.append(np.maximum((error[units, choice][:, None] - error - reduced).max(axis=1), 0.0))
        if progress is not None:
            progress(done, resamples)
    return np.array(choices), np.array(losses), np.array(worths)


def _reduced(compiled: Compiled, deadline: Deadline) -> FloatArray:
    # Reduced costs, +inf where an option is not available.
    prices = maximise_dual(compiled.problem, deadline=deadline).multipliers
    lagrangian = lagrangian_cost(compiled.problem, prices)
    reduced: FloatArray = lagrangian - lagrangian.min(axis=1, keepdims=True)
    return reduced


def _by_option(compiled: Compiled, error: FloatArray) -> FloatArray:
    # (L, F) errors of layers → (U, O) errors of the options of their sets.
    of_layer = np.take_along_axis(error, compiled.formats_of_option, axis=1)  # (L, O)
    total = np.zeros(compiled.problem.cost.shape)
    np.add.at(total, compiled.set_of_layer, of_layer)
    return total


def _summary(
    compiled: Compiled,
    choice: IntArray,
    noise: FloatArray,
    choices: IntArray,
    losses: FloatArray,
    worths: FloatArray,
) -> Stability:
    layers = np.arange(compiled.set_of_layer.size)
    names = list(compiled.profile.formats)
    planned = compiled.formats_of_option[layers, choice[compiled.set_of_layer]]  # (L,)
    found = compiled.formats_of_option[layers, choices[:, compiled.set_of_layer]]  # (R, L)
    worth = worths.mean(axis=0)[compiled.set_of_layer]  # (L,)
    rows = tuple(
        LayerStability(
            layer=layer.name,
            format=names[planned[at]],
            kept=float((found[:, at] == planned[at]).mean()),
            shares={
                name: share
                for column, name in enumerate(names)
                if (share := float((found[:, at] == column).mean()))
            },
            worth=float(worth[at]),
        )
        for at, layer in enumerate(compiled.profile.layers)
    )
    ranked = sorted((row for row in rows if row.worth > 0), key=lambda row: -row.worth)
    return Stability(
        resamples=len(choices),
        kept=float((found == planned).all(axis=1).mean()),
        objective_stderr=float(np.sqrt((noise[layers, planned] ** 2).sum())),
        regret=float(losses.mean()),
        layers=rows,
        measure_next=tuple(row.layer for row in ranked),
    )
