"""A plan held against uniform, greedy and full precision at equal bytes, all of them measured: a gate for releases."""

from __future__ import annotations

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
        weight_bytes: Bytes by the table; absent for full precision.
        measured_bytes: Bytes as measured, where they were.
        latency_us: Microseconds as measured, where they were.
    """

    method: str
    loss: float
    weight_bytes: float | None = None
    measured_bytes: float | None = None
    latency_us: float | None = None


class Verification(Strict):
    """The report.

    Attributes:
        model: Name of the model.
        objective: The table that baselines were planned by.
        profile_sha256: The profile.
        tolerance: Relative amount by which a baseline may be better.
        rows: The plan, then what it is compared with; baselines take no more bytes than the plan.
        failures: Why the plan does not pass; empty when it does.
        notes: What else to know: that a plan may pass and still be of no use.
    """

    model: str
    objective: str
    profile_sha256: str
    tolerance: float
    rows: tuple[Verified, ...]
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
    size = total(loaded, WEIGHT_BYTES, assignment)
    plans: dict[str, Assignment] = {"plan": assignment}
    for name in _BASELINES:
        found = solve(loaded, objective=objective, budgets={WEIGHT_BYTES: size}, solver=name).assignment
        if found is not None:
            plans[name] = found
    plans[FULL_PRECISION] = {}
    rows = tuple(_row(loaded, name, chosen, measure) for name, chosen in plans.items())
    failures = (*_worse(rows, tolerance), *_above(plan, rows[0]))
    return Verification(
        model=loaded.model,
        objective=objective,
        profile_sha256=loaded.digest(),
        tolerance=tolerance,
        rows=rows,
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
        "| | loss | ÷ plan | bytes (table) | bytes (measured) | latency, µs |",
        "|---|---|---|---|---|---|",
    ]
    own = report.rows[0].loss
    for row in report.rows:
        ratio = f"{row.loss / own:.3f}" if own else "–"
        amounts = [
            "–" if amount is None else f"{amount:,.0f}"
            for amount in (row.weight_bytes, row.measured_bytes, row.latency_us)
        ]
        lines.append(f"| {row.method} | {row.loss:.6g} | {ratio} | {' | '.join(amounts)} |")
    lines += [
        "",
        f"Baselines were planned by the table `{report.objective}` with no more bytes than the plan; one may be better "
        f"by {report.tolerance:.2%} before the plan fails. Profile `{report.profile_sha256[:12]}`.",
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


def _row(profile: Profile, method: str, plan: Assignment, measure: Measure) -> Verified:
    found = measure(plan)
    found = found if isinstance(found, Measurement) else Measurement(float(found))
    return Verified(
        method=method,
        loss=found.loss,
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
        f"{row.method} measures a loss of {row.loss:.6g} in no more bytes, the plan {own:.6g}"
        for row in rows[1:]
        if row.method != FULL_PRECISION and row.loss < own * (1 - tolerance)
    ]


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
