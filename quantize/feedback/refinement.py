"""The loop: apply a plan, measure it, correct the tables by what was measured, solve again.

One method for all sizes. What was measured conditions a Gaussian process on log(measured ÷ predicted)
(:mod:`quantize.feedback.surrogate`); the plan that is measured next has the lowest confidence bound, mean minus one
standard deviation, of all plans within the budgets where they can be listed, else of those that the solver finds in
the corrected table and in draws from it, and of their exchanges (:mod:`quantize.feedback.candidates`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

import numpy as np

from allocator import Fault, InvalidInputError, Profile, Request, load_profile, make_request
from allocator.contract.profile import ProfileSource
from allocator.contract.request import RequestFields
from allocator.knapsack.problem import IntArray
from quantize.feedback.candidates import all_within, candidates
from quantize.feedback.first_plans import first_plans
from quantize.feedback.measurement import Measure, Measured, Measurement, remembered
from quantize.feedback.refined import Origin, Refined, Trial, best_of, reported
from quantize.feedback.resources import budgets_on_measured, corrected, fits
from quantize.feedback.space import Space, space_of
from quantize.feedback.surrogate import fitted

_CENTRES = 2  # measured plans whose units are exchanged
_TIMES = 3  # that a plan is timed before it is the best one
_MISSED = 1.05  # of a budget: an unlucky moment may have put the plan there

RefineProgress = Callable[[str, int, int], None]


def refine(
    profile: ProfileSource,
    measure: Measure,
    *,
    max_evaluations: int = 40,
    patience: int = 15,
    seed: int = 0,
    journal: Path | None = None,
    progress: RefineProgress | None = None,
    **fields: Unpack[RequestFields],
) -> Refined:
    """Find the plan that measures best within the budgets.

    The solver's plan, ``uniform`` and ``greedy`` are measured first, so that the answer is never worse than any of
    them. Where a measurement says what a plan really weighs or takes, budgets on ``weight_bytes`` and ``latency_us``
    hold for that, and the table is corrected until it agrees. Of many noisy times the least is a lucky one, so a plan
    that would be the best within a budget on ``latency_us``, or within 5 % of it, is measured three times, and the
    median counts.

    Args:
        profile: A profile, its JSON, or the path of a JSON file.
        measure: Applies a plan (layer → format) and gives its loss, or a :class:`Measurement`. Must give the same loss
            for the same plan; each plan is asked for once, but for times as above.
        max_evaluations: Plans to measure, at least 1; the plans that the search starts from count.
        patience: Stop after so many plans without a better one.
        journal: File of measurements. The same call goes on from it after a kill, to the same answer; one with a
            larger ``max_evaluations`` goes on from there.
        progress: Told (stage, done, total) after every plan.
        **fields: The fields of :class:`~allocator.contract.request.Request`: ``objective``, ``budgets``, ``limits``,
            ``pin``, ….

    Returns:
        The best plan that was measured, with all others.

    Raises:
        InvalidInputError: The request does not fit the profile or no plan keeps its budgets; a loss is not above zero;
            the journal is damaged, of another search, or cannot be written.

    Example:
        >>> profile = {
        ...     "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...     "layers": [{"name": "up", "parameters": 100}, {"name": "down", "parameters": 100}],
        ...     "costs": {"kl": {"values": [[0.5, 0.1], [0.3, 0.1]]}},
        ...     "resources": {"weight_bytes": {"values": [[50, 100], [50, 100]], "unit": "byte"}},
        ... }
        >>> truth = {"int4 int4": 0.9, "int8 int4": 0.5, "int4 int8": 0.4}  # the table has it the other way round
        >>> found = refine(profile, lambda plan: truth[" ".join(plan.values())], budgets={"effective_bits": 6})
        >>> found.allocation.assignment, found.best.loss, found.loss_of("start")
        ({'up': 'int4', 'down': 'int8'}, 0.4, 0.5)
    """
    loaded, request = load_profile(profile), make_request(fields)
    for name, given in (("max_evaluations", max_evaluations), ("patience", patience)):
        if given < 1:
            raise InvalidInputError(Fault(f"/{name}", f"expected at least 1, got {given}"))
    run = {"profile": loaded.digest(), "request": request.model_dump(mode="json"), "seed": seed}
    with remembered(measure, journal, run) as measured:
        search = _Search(loaded, request, space_of(loaded, request), measured, max_evaluations, progress)
        for origin, choice in first_plans(loaded, request, search.trials):
            if len(search.trials) < max_evaluations:
                _try(search, origin, choice)
        stopped = _searched(search, patience, seed)
    return reported(_profile(search), request, search.trials, stopped)


@dataclass(frozen=True, eq=False)
class _Search:
    given: Profile
    request: Request
    space: Space  # of the tables as they were given; the plans are the same later on
    measured: Measured
    most: int
    progress: RefineProgress | None
    trials: list[Trial] = field(default_factory=list)


def _profile(search: _Search) -> Profile:
    return corrected(search.given, search.request, search.trials)


def _searched(search: _Search, patience: int, seed: int) -> str:
    listed: tuple[Profile, IntArray | None] | None = None
    while len(search.trials) < search.most:
        best = best_of(search.trials)
        if best is not None and len(search.trials) - 1 - search.trials.index(best) >= patience:
            return f"no better plan in {patience} evaluations"
        profile = _profile(search)
        space = replace(space_of(profile, search.request), cost=search.space.cost)
        if listed is None or listed[0] is not profile:  # limits move when a table of time is corrected
            listed = (profile, all_within(space))
        plan = _next(search, space, listed[1], np.random.default_rng([seed, len(search.trials)]))
        if plan is None:
            return "every plan that comes into question was measured"
        _try(search, "search", plan)
    return f"{search.most} evaluations were spent"


def _next(
    search: _Search, space: Space, listed: IntArray | None, random: np.random.Generator
) -> IntArray | None:
    tried = np.stack([trial.choice for trial in search.trials])
    losses = np.array([trial.loss for trial in search.trials])
    surrogate = fitted(space, tried, losses)
    ranked = sorted((trial for trial in search.trials if trial.fits), key=lambda trial: trial.loss)
    for centres in (ranked[:_CENTRES], ranked):  # around the best plans, or all where nothing else is left
        found = candidates(surrogate, listed, [trial.choice for trial in centres], random)
        plans = _untried(space, found, tried)
        if len(plans):
            mean, deviation = surrogate.log_loss(plans)
            chosen: IntArray = plans[(mean - deviation).argmin()]
            return chosen
    return None


def _untried(space: Space, plans: IntArray, tried: IntArray) -> IntArray:
    # Plans that differ in fused kernels only are the same to a measurement.
    known = set(map(bytes, space.formats(tried)))
    return plans[[bytes(row) not in known for row in space.formats(plans)]]


def _try(search: _Search, origin: Origin, choice: IntArray) -> None:
    assignment = search.space.compiled.assignment(choice)
    for at, known in enumerate(search.trials):
        if known.assignment == assignment:
            search.trials[at] = replace(known, origins=(*known.origins, origin))
            return
    found = search.measured(assignment)
    if found.loss <= 0:
        detail = (
            f"expected a loss above zero, got {found.loss!r}: give a distance to the original, such as KL"
        )
        raise InvalidInputError(Fault("/measure", detail))
    predicted = float(search.space.predicted(choice[None])[0])
    profile = _profile(search)
    if _wins_by_time(search, found) and fits(profile, search.request, choice, _on_a_better_day(found)):
        found = _timed_again(search, assignment, found)
    within = fits(profile, search.request, choice, found)
    search.trials.append(Trial((origin,), assignment, predicted, found, within, choice))
    if search.progress is not None:
        search.progress("plans", len(search.trials), search.most)


def _wins_by_time(search: _Search, found: Measurement) -> bool:
    best = best_of(search.trials)
    timed = any(row.name == "latency_us" for row in budgets_on_measured(search.given, search.request))
    return timed and found.latency_us is not None and (best is None or found.loss < best.loss)


def _on_a_better_day(found: Measurement) -> Measurement:
    return found if found.latency_us is None else replace(found, latency_us=found.latency_us / _MISSED)


def _timed_again(search: _Search, assignment: Mapping[str, str], found: Measurement) -> Measurement:
    more = (search.measured(assignment, again) for again in range(1, _TIMES))
    times = [item.latency_us for item in (found, *more) if item.latency_us is not None]
    return replace(found, latency_us=statistics.median(times))
