"""A plan held against uniform, greedy and full precision in its own budget, all measured: a gate for releases."""

from __future__ import annotations

from collections import Counter

from allocator import (
    Allocation,
    Fault,
    InvalidInputError,
    Profile,
    certify,
    load_profile,
    make_request,
    solve,
    total,
)
from allocator.contract.allocation import PlanSource, load_plan
from allocator.contract.errors import pointer, unknown
from allocator.contract.profile import ProfileSource
from allocator.contract.schema import Strict
from allocator.knapsack.constraints import EFFECTIVE_BITS
from allocator.knapsack.tables import WEIGHT_BYTES
from quantize.feedback.measurement import Assignment, Measure, Measurement
from quantize.feedback.resources import MEASURABLE

#: Full precision is measured by applying nothing.
FULL_PRECISION = "full precision"
_BASELINES = ("uniform", "greedy")


class Verified(Strict):
    """A plan that was measured for the report.

    Attributes:
        method: ``plan``, ``uniform``, ``greedy`` or ``full precision``.
        loss: Measured loss.
        format: The one format of a uniform plan; its nearest where a layer cannot have it.
        budget_share: Part of the plan's budget that it uses, by the table; of several budgets the fullest.
        weight_bytes: Bytes by the table; absent for full precision.
        measured_bytes: Bytes as measured, where they were.
        latency_us: Microseconds as measured, where they were.
    """

    method: str
    loss: float
    format: str | None = None
    budget_share: float | None = None
    weight_bytes: float | None = None
    measured_bytes: float | None = None
    latency_us: float | None = None

    @property
    def name(self) -> str:
        """The method, with its format."""
        return self.method if self.format is None else f"{self.method} {self.format}"


class Verification(Strict):
    """The report.

    Attributes:
        model: Name of the model.
        objective: The table that baselines were planned by.
        profile_sha256: The profile.
        tolerance: Relative amount by which a baseline may be better.
        rows: The plan, then what it is compared with.
        budgets: What the baselines may use: the budgets that the plan was made for, or else its own bytes.
        failures: Why the plan does not pass; empty when it does.
        notes: What else to know: that a plan may pass and still be of no use.
    """

    model: str
    objective: str
    profile_sha256: str
    tolerance: float
    rows: tuple[Verified, ...]
    budgets: dict[str, float] = {}
    failures: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the plan passes."""
        return not self.failures


def verify(
    profile: ProfileSource,
    plan: PlanSource,
    measure: Measure,
    *,
    objective: str,
    tolerance: float = 0.0,
) -> Verification:
    """Measure a plan beside what it should beat.

    Args:
        profile: A profile, its JSON, or the path of a JSON file; has the table ``weight_bytes``.
        plan: An allocation, or layer → format for every layer of the profile; or the path of a JSON file of either.
        measure: Applies a plan and measures it, see :func:`~quantize.feedback.refinement.refine`; an empty plan is
            the original.
        objective: The table that the baselines are planned by.
        tolerance: Relative amount by which a baseline may measure better.

    Returns:
        The report. It fails where a baseline measures better by more than the tolerance, or where the plan measures
        more bytes or time than the budgets that its allocation was made for.

    Raises:
        InvalidInputError: The plan is none, or for another profile; every strange layer and format is named.

    Example:
        >>> profile = {
        ...     "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...     "layers": [{"name": "up", "parameters": 100}, {"name": "down", "parameters": 100}],
        ...     "costs": {"kl": {"values": [[0.5, 0.1], [0.3, 0.1]]}},
        ...     "resources": {"weight_bytes": {"values": [[50, 100], [50, 100]], "unit": "byte"}},
        ... }
        >>> measure = lambda plan: sum(name == "int4" for name in plan.values())
        >>> report = verify(profile, {"up": "int8", "down": "int4"}, measure, objective="kl")
        >>> report.passed, [(row.method, row.loss) for row in report.rows][:2]
        (True, [('plan', 1.0), ('uniform', 2.0)])
    """
    loaded, plan = load_profile(profile), load_plan(plan)
    assignment = _checked(loaded, plan)
    if not 0 <= tolerance < 1:
        raise InvalidInputError(Fault("/tolerance", f"expected at least 0 and below 1, got {tolerance!r}"))
    budgets = _budgets(loaded, plan, assignment)
    plans: dict[str, Assignment] = {"plan": assignment}
    for name in _BASELINES:
        found = solve(loaded, objective=objective, budgets=dict(budgets), solver=name).assignment
        if found is not None:
            plans[name] = found
    plans[FULL_PRECISION] = {}
    rows = tuple(_row(loaded, name, chosen, measure, budgets) for name, chosen in plans.items())
    failures = (*_worse(rows, tolerance), *_above(plan, rows[0]))
    return Verification(
        model=loaded.model,
        objective=objective,
        profile_sha256=loaded.digest(),
        tolerance=tolerance,
        rows=rows,
        budgets=budgets,
        failures=failures,
        notes=tuple(_broken(loaded, objective, rows[0].loss)),
    )


def as_markdown(report: Verification) -> str:
    """Return the report as one page of Markdown."""
    verdict = "**Passed.**" if report.passed else "**Failed.**"
    lines = [f"# {report.model or 'Plan'}: measured against its baselines", "", verdict, ""]
    lines += [f"- {failure}" for failure in report.failures] + [""] * bool(report.failures)
    lines += [f"- {note}" for note in report.notes] + [""] * bool(report.notes)
    lines += [
        "| | of the budget | loss | ÷ plan | bytes (table) | bytes (measured) | latency, µs |",
        "|---|---|---|---|---|---|---|",
    ]
    budgets = ", ".join(f"{name} at most {amount:,.10g}" for name, amount in report.budgets.items())
    own = report.rows[0].loss
    for row in report.rows:
        ratio = f"{row.loss / own:.3f}" if own else "–"
        amounts = [
            "–" if amount is None else f"{amount:,.0f}"
            for amount in (row.weight_bytes, row.measured_bytes, row.latency_us)
        ]
        share = "–" if row.budget_share is None else f"{row.budget_share:.1%}"
        lines.append(f"| {row.name} | {share} | {row.loss:.6g} | {ratio} | {' | '.join(amounts)} |")
    lines += [
        "",
        f"Baselines were planned by the table `{report.objective}` within the plan's own budget ({budgets}); one may "
        f"be better by {report.tolerance:.2%} before the plan fails. Profile `{report.profile_sha256[:12]}`.",
    ]
    return "\n".join(lines) + "\n"


def _checked(profile: Profile, plan: Allocation | Assignment) -> Assignment:
    assignment = plan.assignment if isinstance(plan, Allocation) else plan
    if assignment is None:
        raise InvalidInputError(
            Fault("/assignment", "there is nothing to verify: the allocation holds no plan")
        )
    names = [layer.name for layer in profile.layers]
    faults = [
        Fault(pointer(("assignment", name)), unknown(name, names, "layer"))
        for name in assignment
        if name not in names
    ]
    faults += [
        Fault(pointer(("assignment", name)), "the plan leaves this layer of the profile out")
        for name in names
        if name not in assignment
    ]
    faults += [
        Fault(pointer(("assignment", layer)), unknown(name, profile.formats, "format"))
        for layer, name in assignment.items()
        if name not in profile.formats
    ]
    if not faults:
        broken = certify(profile, make_request({"objective": WEIGHT_BYTES}), assignment).violations
        faults = [Fault("/assignment", violation) for violation in broken]
    if faults:
        raise InvalidInputError(*faults)
    return assignment


def _budgets(profile: Profile, plan: Allocation | Assignment, assignment: Assignment) -> dict[str, float]:
    # What a plan leaves of its budget is what a baseline may need: int4 at 4.25 bits, beside a plan of 4.2.
    usage = plan.usage if isinstance(plan, Allocation) else {}
    found = {
        name: used.limit
        for name, used in usage.items()
        if used.limit is not None and (name in profile.resources or name == EFFECTIVE_BITS)
    }
    return found or {WEIGHT_BYTES: total(profile, WEIGHT_BYTES, assignment)}


def _share(profile: Profile, plan: Assignment, budgets: dict[str, float]) -> float | None:
    request = make_request({"objective": WEIGHT_BYTES, "budgets": budgets})
    used = certify(profile, request, plan).used
    return max((used[name] / most for name, most in budgets.items() if most > 0), default=None)


def _row(
    profile: Profile, method: str, plan: Assignment, measure: Measure, budgets: dict[str, float]
) -> Verified:
    found = measure(plan)
    found = found if isinstance(found, Measurement) else Measurement(float(found))
    return Verified(
        method=method,
        loss=found.loss,
        format=Counter(plan.values()).most_common(1)[0][0] if method == "uniform" else None,
        budget_share=_share(profile, plan, budgets) if plan else None,
        weight_bytes=total(profile, WEIGHT_BYTES, plan) if plan else None,
        measured_bytes=found.weight_bytes,
        latency_us=found.latency_us,
    )


def _broken(profile: Profile, objective: str, loss: float) -> list[str]:
    table = profile.costs.get(objective)
    if table is None or table.tolerable is None or table.better == "higher" or loss <= table.tolerable:
        return []
    return [
        f"the plan measures a loss of {loss:.3g}, and {table.tolerable:g} is the most that is of use by {objective!r}: "
        "whatever it is compared with, the model is likely broken; give it more bytes, or a better rounding"
    ]


def _worse(rows: tuple[Verified, ...], tolerance: float) -> list[str]:
    own = rows[0].loss
    return [
        f"{row.name} measures a loss of {row.loss:.6g}{_in(row)}, the plan {own:.6g}{_in(rows[0])}"
        for row in rows[1:]
        if row.method != FULL_PRECISION and row.loss < own * (1 - tolerance)
    ]


def _in(row: Verified) -> str:
    return "" if row.budget_share is None else f" in {row.budget_share:.1%} of the budget"


def _above(plan: Allocation | Assignment, row: Verified) -> list[str]:
    if not isinstance(plan, Allocation):
        return []
    measured = {"weight_bytes": row.measured_bytes, "latency_us": row.latency_us}
    found = []
    for name in MEASURABLE:
        limit = plan.usage[name].limit if name in plan.usage else None
        amount = measured[name]
        if limit is not None and amount is not None and amount > limit:
            found.append(f"{name} measures {amount:,.0f}, the plan was made for at most {limit:,.0f}")
    return found
