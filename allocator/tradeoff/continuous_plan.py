"""What real-valued bits would reach, the plan they round to, and how far both are from the proved optimum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from allocator.answer.solve import solve_request
from allocator.bounds.dual import maximise_dual
from allocator.bounds.rate_law import fit_law
from allocator.contract.allocation import Allocation
from allocator.contract.profile import ProfileSource, load_profile
from allocator.contract.request import RequestFields, make_request
from allocator.contract.status import Status
from allocator.knapsack.compile import compile_problem
from allocator.solvers.baselines.relaxation import relax
from allocator.solvers.outcome import relative_gap


@dataclass(frozen=True)
class ContinuousPlan:
    r"""Real-valued bits beside the plans of whole formats.

    Attributes:
        theta: θ of the law :math:`c_u 2^{-\theta R}`; absent where the costs do not fall with the bits.
        bits: Layer name to bits; layers that no law describes are absent.
        value: The objective at these bits by the law; absent where the request is infeasible.
        lower_bound: What no plan can beat; only where the table follows the law exactly.
        plan: The bits rounded to formats, repaired and improved, with its own bound.
        optimum: The answer of the exact solver.
        gap: Distance between plan and optimum, relative to the larger; absent where either lacks a plan.
    """

    theta: float | None
    bits: Mapping[str, float]
    value: float | None
    lower_bound: float | None
    plan: Allocation
    optimum: Allocation
    gap: float | None


def continuous_plan(profile: ProfileSource, **fields: Unpack[RequestFields]) -> ContinuousPlan:
    """Solve a request for real-valued bits, round them, and say what that costs.

    Args:
        profile: A profile, its JSON, or the path of a JSON file.
        **fields: The fields of :class:`~allocator.contract.request.Request`; ``solver`` is set here.

    Returns:
        Bits, plan and optimum. Of several objectives only the first is relaxed.

    Raises:
        InvalidInputError: Profile or request cannot be used; names every offending field.

    Source:
        BAQ (arXiv 2506.05664); see :mod:`allocator.bounds.water_filling`.

    Example:
        >>> profile = {
        ...     "formats": {f"int{bits}": {"weight_bits": bits} for bits in (2, 4, 8)},
        ...     "layers": [{"name": "up", "parameters": 8}, {"name": "down", "parameters": 8}],
        ...     "costs": {"mse": {"values": [[c * 4.0**-bits for bits in (2, 4, 8)] for c in (1, 64)]}},
        ...     "resources": {"weight_bytes": {"values": [[2, 4, 8]] * 2, "unit": "byte"}},
        ... }
        >>> found = continuous_plan(profile, budgets={"effective_bits": 5})
        >>> {name: round(bits, 9) for name, bits in found.bits.items()}, found.plan.assignment
        ({'up': 3.5, 'down': 6.5}, {'up': 'int2', 'down': 'int8'})
        >>> round(found.value, 9), round(found.lower_bound, 9), round(found.plan.objective, 9), found.gap
        (0.015625, 0.015625, 0.063476562, 0.0)
    """
    profile, request = load_profile(profile), make_request(fields)
    compiled = compile_problem(profile, request)
    plan = solve_request(profile, request.model_copy(update={"solver": "convex"}))
    optimum = solve_request(profile, request.model_copy(update={"solver": "exact"}))
    gap = None
    if plan.objective is not None and optimum.objective is not None:
        gap = relative_gap(plan.objective, optimum.objective)
    if plan.status is Status.INFEASIBLE:
        return ContinuousPlan(None, {}, None, None, plan, optimum, gap)
    problem = compiled.problem
    relaxation = relax(problem, maximise_dual(problem), fit_law(problem))
    bits = relaxation.bits[compiled.set_of_layer].tolist()
    reported = compiled.objectives[0].reported
    return ContinuousPlan(
        theta=relaxation.theta if np.isfinite(relaxation.theta) else None,
        bits={layer.name: own for layer, own in zip(profile.layers, bits, strict=True) if np.isfinite(own)},
        value=reported(relaxation.value),
        lower_bound=reported(relaxation.lower_bound) if np.isfinite(relaxation.lower_bound) else None,
        plan=plan,
        optimum=optimum,
        gap=gap,
    )
