"""What decisions by hand cost."""

from __future__ import annotations

from allocator.answer.notes.planned import Planned
from allocator.contract.note import Note
from allocator.contract.status import Status
from allocator.knapsack.compile import compile_problem
from allocator.solvers import SOLVERS
from allocator.solvers.outcome import Effort

#: From these factors on, what was decided by hand is worth a note, and a warning.
_NOTED, _WARNED = 1.02, 1.5
_LEAST_S = 1.0


def pin_notes(planned: Planned) -> tuple[Note, ...]:
    """Plan again without pins and lists, and say what they cost.

    The second search takes no longer than twice the first, or a second; where it ends unproved, its plan still says
    how much better plans there are at least.

    Returns:
        One note, or none where nothing was decided by hand or it costs less than 2 %.
    """
    request = planned.request
    given = [name for name in ("pin", "allow", "forbid") if getattr(request, name)]
    goal = planned.compiled.objectives[0]
    own = goal.reported(planned.compiled.problem.objective(planned.choice))
    if not given or goal.maximise or own <= 0:
        return ()
    free = compile_problem(planned.profile, request.model_copy(update={"pin": {}, "allow": {}, "forbid": {}}))
    most_s = max(2 * planned.seconds, _LEAST_S)
    left_s = planned.deadline.left_s()
    effort = Effort(request.gap, most_s if left_s is None else min(most_s, left_s))
    entry, _ = SOLVERS.find(request.solver).chosen(free.problem)
    outcome = entry.load()(free.problem, effort)
    if outcome.choice is None:
        return ()
    best = goal.reported(free.problem.objective(outcome.choice))
    if own < _NOTED * best or best == own:
        return ()
    proved = outcome.status is Status.OPTIMAL
    factor = "from 0" if best <= 0 else f"{'' if proved else 'at least '}{own / best:.3g} ×"
    names = " and ".join(given)
    verb = "costs" if len(given) == 1 else "cost"
    text = f"{names} {verb} {factor}: without, {goal.label} could be {best:.4g} instead of {own:.4g}"
    severity = "warning" if own >= _WARNED * best else "note"
    return (Note.model_validate({"about": "pins", "severity": severity, "text": text}),)
