"""A plugin of workers: solvers that misbehave, and such that take their time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from allocator import SOLVERS
from allocator.contract.status import Status
from allocator.knapsack.problem import Problem
from allocator.solvers import Effort, Outcome
from allocator.solvers.exact import search as exact
from tests.api.helpers import GivenSolver


def _broken(problem: Problem, effort: Effort) -> Outcome:
    del problem, effort
    raise ZeroDivisionError("the password is swordfish")


def _overspending(problem: Problem, effort: Effort) -> Outcome:
    del effort
    return Outcome(Status.OPTIMAL, np.full(problem.units, 1), 0.0)


def _limited(problem: Problem, effort: Effort) -> Outcome:
    """The exact solver, which also tells in its answer how long it was allowed to work."""
    outcome = exact.solve(problem, effort)
    assert effort.time_limit_s is not None
    work = {"limit_ms": round(effort.time_limit_s * 1e3)}
    return Outcome(outcome.status, outcome.choice, outcome.bound, work)


def _dying(problem: Problem, effort: Effort) -> Outcome:
    del problem, effort
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _hungry(problem: Problem, effort: Effort) -> Outcome:
    del problem, effort
    raise AssertionError(len(bytearray(2**40)))


def _noted(event: str) -> None:
    # What became of a solve can be read in a file: how often it began, in which process, with which child.
    with Path(os.environ["BITALLOC_TEST_NOTES"]).open("a") as notes:
        notes.write(f"{event}\n")


def _slow(problem: Problem, effort: Effort) -> Outcome:
    """Improves its plan until a file says that it may end; has a child, as CBC would be."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    _noted(f"began {os.getpid()} {child.pid}")
    outcome = exact.solve(problem, Effort())
    gate = Path(os.environ["BITALLOC_TEST_NOTES"] + ".end")
    step = 0
    while not gate.exists():
        step += 1
        effort.tell(problem, outcome.choice, outcome.bound - 1.0 / step)
        time.sleep(0.05)
    child.kill()
    child.wait()
    _noted("ended")
    return outcome


def _napping(problem: Problem, effort: Effort) -> Outcome:
    """Takes a second, and notes it."""
    _noted("began")
    time.sleep(1.0)
    return exact.solve(problem, effort)


def _dozing(problem: Problem, effort: Effort) -> Outcome:
    """Takes four seconds of its worker's time, and none of the processor's."""
    time.sleep(4.0)
    return exact.solve(problem, effort)


def register() -> None:
    given = {
        "broken": _broken,
        "overspending": _overspending,
        "limited": _limited,
        "dying": _dying,
        "hungry": _hungry,
        "slow": _slow,
        "napping": _napping,
        "dozing": _dozing,
    }
    for name, run in given.items():
        SOLVERS[name] = GivenSolver(name, "tests", "for tests", run=run)
