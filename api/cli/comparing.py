"""How far apart two objectives are, in words: relative to the plan's own, or the difference where that is no share."""

from __future__ import annotations

from allocator import Baseline


def none_better(objective: float | None, bound: float | None) -> str:
    """Say how much better than a plan any other can be.

    Args:
        bound: No plan has a better one; None where nothing is known.

    Returns:
        Words to put behind the objective; empty where nothing is known.

    Example:
        >>> none_better(0.4, 0.4), none_better(0.4, 0.1), none_better(-2.0, -2.5), none_better(0.4, None)
        (', no plan is better', ', no plan is more than 75% better', ', no plan is better by more than 0.5', '')
    """
    if objective is None or bound is None:
        return ""
    apart = abs(objective - bound)
    if apart == 0:
        return ", no plan is better"
    if objective <= 0:
        return f", no plan is better by more than {apart:.4g}"
    return f", no plan is more than {100 * apart / objective:.4g}% better"


def beside_plan(baseline: Baseline, objective: float | None) -> str:
    """Hold what a simple rule reaches against the plan.

    Args:
        objective: Of the plan; None where there is none.

    Returns:
        Its objective, the factor to the plan's and the share by which it is worse; where the plan's objective is zero
        or below there is neither, and the difference is given.

    Example:
        >>> beside_plan(Baseline(objective=2.2, difference=1.2, worse_by=1.2), 1.0)
        "2.2, 2.2 × the plan's (120.0% worse)"
        >>> beside_plan(Baseline(objective=-1.0, difference=1.5), -2.5)
        '-1, worse by 1.5'
    """
    if baseline.objective is None:
        return "no plan within the limits"
    if baseline.difference is None or objective is None:
        return f"{baseline.objective:.6g}"
    if baseline.difference == 0:
        return f"{baseline.objective:.6g}, as good as the plan"
    word = "worse" if baseline.difference > 0 else "better"
    if baseline.worse_by is None:
        return f"{baseline.objective:.6g}, {word} by {abs(baseline.difference):.4g}"
    factor = f"{baseline.objective / objective:.3g} × the plan's"
    return f"{baseline.objective:.6g}, {factor} ({abs(baseline.worse_by):.1%} {word})"
