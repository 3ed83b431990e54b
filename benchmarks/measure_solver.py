"""One solver on one instance, in a process of its own: what ``benchmarks.solvers`` starts for each row."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from allocator.bounds.hull import build_hull
from allocator.knapsack.problem import FloatArray, Problem
from allocator.solvers.exact import search as exact
from allocator.solvers.outcome import Effort
from benchmarks.instances import INSTANCES
from benchmarks.whole_models import WHOLE, Answer

#: Solves are repeated until there are five and half a second of them, or ten seconds.
_RUNS, _LEAST_S, _MOST_S = 5, 0.5, 10.0


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """Time a solver.

    Args:
        asked: Names of the instance and the solver, gap, time limit.

    Returns:
        What was asked and what was measured.
    """
    instance = INSTANCES[asked["instance"]]
    problem = instance.make()
    before = _peak_mb()
    limits = instance.limits(problem)
    if asked["solver"] != "exact":
        at = sorted({len(limits) * quarter // 4 for quarter in (1, 2, 3)})
        times, (choice, says) = _timed(lambda: _whole(problem, [limits[index] for index in at], asked))
        times = tuple(each * len(limits) / len(at) for each in times)
    elif instance.supported:
        times, (choice, says) = _timed(lambda: (build_hull(problem).plan(0), "supported"))
    else:
        times, (choice, says) = _timed(lambda: _exact(problem, limits))
    return {
        **asked,
        "seconds": times[0],
        "processor_s": times[1],
        "extrapolated": asked["solver"] != "exact" and len(limits) > 3,
        "says": says,
        "objective": None if choice is None or instance.supported else problem.objective(choice),
        "peak_mb": _peak_mb() - before,
    }


def _exact(problem: Problem, limits: list[FloatArray]) -> Answer:
    prepared = exact.prepare(problem)
    outcomes = [exact.solve_prepared(prepared, limit, Effort()) for limit in limits]
    return outcomes[-1].choice, ", ".join(sorted({str(outcome.status) for outcome in outcomes}))


def _whole(problem: Problem, limits: list[FloatArray], asked: dict[str, Any]) -> Answer:
    solve = WHOLE[asked["solver"]]
    answers = [solve(replace(problem, limit=limit), asked["gap"], asked["time_limit_s"]) for limit in limits]
    return answers[-1]


def _timed(run: Callable[[], Answer]) -> tuple[tuple[float, ...], Answer]:
    # Medians of wall clock and processor time.
    seconds: list[tuple[float, float]] = []
    while True:
        start, spent = time.perf_counter(), _processor_s()
        answer = run()
        seconds.append((time.perf_counter() - start, _processor_s() - spent))
        if sum(wall for wall, _ in seconds) > (_LEAST_S if len(seconds) >= _RUNS else _MOST_S):
            return tuple(statistics.median(each) for each in zip(*seconds, strict=True)), answer


def _processor_s() -> float:
    # CBC is a process of its own.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _peak_mb() -> float:
    # CBC is a process of its own; on Linux both counts are in KiB.
    return (
        sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        / 1024
    )


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
