"""A latency budget on a real runtime: foreseen by a corrected table, held against the clock and uniform plans."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from allocator import InvalidInputError, Profile, make_request, total
from quantize.feedback import Measurement, Refined, clock_beside, middle_plan, refine
from quantize.feedback.resources import corrected

#: Budgets: of the way from the fastest uniform plan to full precision.
SHARES = (0.1, 0.25, 0.5)
_SESSIONS = 3  # of what is not searched for
_LEAST = 1e-12  # a loss has to be above zero

Plan = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Runtime:
    """A model on a runtime, ready to be planned and timed.

    Attributes:
        profile: Its tables, ``latency_us`` among them.
        objective: The table of costs.
        loss: Plan → how far it moves the model.
        times_us: Times plans in turns of several passes each, so that weights are as warm as in use, whatever
            the others are; only times of one call can be compared.
        full_precision: Format of the original.
    """

    profile: Profile
    objective: str
    loss: Callable[[Plan], float]
    times_us: Callable[[Sequence[Plan]], Sequence[float]]
    full_precision: str = "fp32"


@dataclass(frozen=True)
class Planned:
    """A budget and the plan that was found for it.

    Attributes:
        budget_us: The budget.
        foreseen_us: What the table says, corrected by all measured plans but this one.
        foreseen_at_first_us: What the table says without any correction.
        measured_us: What the plan takes, timed once more after the search.
        loss: How far it moves the model.
        uniform: The uniform plan with the least loss within the budget.
        evaluations: Plans that were measured.
        plan: The plan.
    """

    budget_us: float
    foreseen_us: float
    foreseen_at_first_us: float
    measured_us: float
    loss: float
    uniform: str
    evaluations: int
    plan: Plan

    @property
    def error(self) -> float:
        """Of what was foreseen, relative to what was measured."""
        return self.foreseen_us / self.measured_us - 1


@dataclass(frozen=True)
class Speed:
    """What a runtime measured.

    Attributes:
        uniform_us: Format → time of the uniform plan.
        uniform_loss: Format → its loss.
        planned: One for each budget that some plan was seen to keep.
    """

    uniform_us: Mapping[str, float]
    uniform_loss: Mapping[str, float]
    planned: tuple[Planned, ...]


def measured_speed(runtime: Runtime, evaluations: int, shares: Sequence[float] = SHARES) -> Speed:
    """Plan for budgets between the fastest uniform plan and full precision.

    Args:
        runtime: The model.
        evaluations: Plans that the search may measure, for each budget.
        shares: Budgets, of the way from the fastest uniform plan to full precision.

    Returns:
        Uniform plans, and a plan for each budget, all timed once more at the end.
    """
    names = [layer.name for layer in runtime.profile.layers]
    uniform = {name: dict.fromkeys(names, name) for name in runtime.profile.formats}
    losses = {name: runtime.loss(plan) + _LEAST for name, plan in uniform.items()}
    clock = clock_beside(runtime.times_us, middle_plan(runtime.profile))
    first = {name: _again(clock, plan) for name, plan in uniform.items()}
    fastest, slowest = min(first.values()), first[runtime.full_precision]
    budgets = [fastest + share * (slowest - fastest) for share in shares]
    found = [_refined(runtime, clock, budget, evaluations) for budget in budgets]
    uniform_us = {name: _again(clock, plan) for name, plan in uniform.items()}
    planned = tuple(
        _planned(runtime, item, budget, _again(clock, item.best.assignment), uniform_us, losses)
        for item, budget in zip(found, budgets, strict=True)
        if item is not None
    )
    return Speed(uniform_us, losses, planned)


def _refined(
    runtime: Runtime, clock: Callable[[Plan], float], budget_us: float, evaluations: int
) -> Refined | None:
    # None where the clock was so restless that no plan was seen to keep the budget: the other budgets still count.
    try:
        return refine(
            runtime.profile,
            lambda plan: Measurement(runtime.loss(plan) + _LEAST, latency_us=clock(plan)),
            max_evaluations=evaluations,
            patience=evaluations,
            objective=runtime.objective,
            budgets={"latency_us": budget_us},
        )
    except InvalidInputError as error:
        if error.faults[0].pointer != "/budgets":
            raise
        return None


def _again(clock: Callable[[Plan], float], plan: Plan) -> float:
    return statistics.median(clock(plan) for _ in range(_SESSIONS))


def _planned(
    runtime: Runtime,
    found: Refined,
    budget_us: float,
    measured_us: float,
    uniform_us: Mapping[str, float],
    losses: Mapping[str, float],
) -> Planned:
    plan = found.best.assignment
    request = make_request({"objective": runtime.objective, "budgets": {"latency_us": budget_us}})
    others = [trial for trial in found.trials if trial is not found.best]
    within = [name for name, time in uniform_us.items() if time <= max(budget_us, measured_us)]
    return Planned(
        budget_us,
        total(corrected(runtime.profile, request, others), "latency_us", plan),
        total(runtime.profile, "latency_us", plan),
        measured_us,
        found.best.loss,
        min(within, key=lambda name: losses[name]),
        len(found.trials),
        plan,
    )
