"""Long searches: what they say while they run, and how Ctrl-C and the time limit end them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from allocator import Allocation
from allocator.answer.solve import SolveProgress
from allocator.knapsack.deadline import Deadline, stop_asked, stopping
from allocator.knapsack.problem import Problem
from allocator.solvers import Solver
from allocator.solvers.outcome import Effort, Outcome, found
from api.cli.interrupting import left_behind, until_interrupted
from api.cli.options import DEFAULT_TIME_LIMIT_S, asked, limited
from api.cli.watching import Watch
from tests.api.cli.profile_files import written
from tests.api.conftest import Run
from tests.api.helpers import random_profile

AddSolver = Callable[[str, Solver], None]


@pytest.fixture(autouse=True)
def _listening() -> Iterator[None]:
    """Listen to Ctrl-C also where a shell runs the tests in the background, and has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _press(times: int = 1, apart_s: float = 0.0) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(apart_s)


def _searching(press: bool) -> Solver:
    def solve(problem: Problem, effort: Effort) -> Outcome:
        if press:
            _press()
        deadline = Deadline(effort.time_limit_s)
        started = time.monotonic()
        while not deadline.passed():
            assert time.monotonic() - started < 30
            time.sleep(0.01)
        return found(problem, np.zeros(problem.units, dtype=np.int64), 0.001)

    return solve


def test_ctrl_c_gives_the_best_plan_so_far_with_what_is_proved_of_it(
    bitalloc: Run, profile: Path, add_solver: AddSolver
) -> None:
    add_solver("searching", _searching(press=True))
    done = bitalloc("solve", profile, "--solver", "searching", "--out", "plan.json")
    assert done.code == 130
    assert "stopping with the best plan so far; Ctrl-C again to give up" in done.err
    assert done.out.startswith("feasible  Within every budget")
    assert "no plan is more than " in done.out
    assert "note: stopped by Ctrl-C after " in done.out
    plan = Allocation.model_validate_json(Path("plan.json").read_bytes())
    assert plan.status == "feasible"
    assert plan.assignment is not None
    assert plan.gap is not None
    assert plan.gap > 0
    assert "shadow_prices" not in plan.left_out  # there is no budget
    assert plan.notes[-1].about == "time"


@pytest.mark.parametrize("command", [("explain",), ("frontier", "--at", "5000", "--at", "6000")])
def test_ctrl_c_ends_explanations_and_frontiers_with_what_they_have(
    bitalloc: Run, profile: Path, add_solver: AddSolver, command: tuple[str, ...]
) -> None:
    add_solver("searching", _searching(press=True))
    done = bitalloc(command[0], profile, *command[1:], "--solver", "searching")
    assert done.code == 130
    assert "Traceback" not in done.err
    assert "feasible" in done.out
    if command[0] == "frontier":
        assert "6,000" not in done.out  # budgets after that are not looked at
        assert done.out.endswith("stopped by Ctrl-C: 1 of 2 budgets, the last one unproved\n")


def test_the_time_limit_is_named_where_it_ended_the_search(
    bitalloc: Run, profile: Path, add_solver: AddSolver
) -> None:
    add_solver("searching", _searching(press=False))
    done = bitalloc("solve", profile, "--solver", "searching", "--time-limit", "0.3", "--json")
    assert (done.code, done.err) == (0, "")
    note = json.loads(done.out)["notes"][-1]
    assert note["text"].startswith("stopped at the time limit of 0.3 s, unproved; --time-limit sets another")


def test_a_frontier_counts_the_points_that_the_time_limit_ended(
    bitalloc: Run, profile: Path, add_solver: AddSolver
) -> None:
    add_solver("searching", _searching(press=False))
    options = ("--at", "5000", "--at", "6000", "--solver", "searching", "--time-limit", "0.1")
    done = bitalloc("frontier", profile, *options)
    assert done.code == 0
    assert done.out.endswith(
        "2 of 2 stopped at the time limit of 0.1 s for each, unproved; --time-limit sets another\n"
    )


def test_a_proved_plan_says_nothing_of_time(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("solve", profile, "-b", "weight_bytes=7000", "--json")
    assert "time" not in {note["about"] for note in json.loads(done.out)["notes"]}


def test_there_is_a_time_limit_where_none_was_typed(bitalloc: Run) -> None:
    assert limited(asked()).time_limit_s == DEFAULT_TIME_LIMIT_S
    assert limited(asked(time_limit=2.0)).time_limit_s == 2.0
    for command in ("solve", "frontier", "explain"):
        said = " ".join(bitalloc(command, "--help").out.replace("│", " ").split())
        assert "300 when absent" in said


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf"])
def test_a_time_limit_that_is_none_is_refused(bitalloc: Run, profile: Path, limit: str) -> None:
    done = bitalloc("solve", profile, "--time-limit", limit)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: /time_limit_s: ")


@pytest.mark.long
@pytest.mark.parametrize("command", ["solve", "explain", "frontier"])
def test_a_pattern_that_takes_for_ever_is_refused(bitalloc: Run, tmp_path: Path, command: str) -> None:
    document = random_profile(30)
    for at, layer in enumerate(document["layers"]):
        layer["name"] = f"{at}{'a' * 500}"
    pattern = json.dumps({"max": 1, "each": "*{}" + "*a" * 200 + "b"})
    done = bitalloc(command, written(tmp_path, document), "-o", "kl", "--limit", pattern)
    assert (done.code, done.out) == (2, "")
    assert "takes too long to compare with the names" in done.err


def test_a_second_ctrl_c_gives_up() -> None:
    release = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        until_interrupted(lambda: (_press(2, apart_s=0.7), release.wait(20)))
    release.set()


def test_a_launcher_that_passes_the_signal_on_is_no_second_key() -> None:
    def work() -> str:
        _press(2, apart_s=0.1)
        return "done"

    assert until_interrupted(work) == ("done", True)


def test_work_that_does_not_stop_is_left_behind() -> None:
    release = threading.Event()
    found, interrupted = until_interrupted(
        lambda: (_press(), release.wait(20), "late")[-1], lambda: "in its place", grace_s=0.2
    )
    assert (found, interrupted) == ("in its place", True)
    assert left_behind()
    release.set()


def test_errors_come_through_and_the_signal_is_given_back() -> None:
    def fail() -> None:
        raise ValueError("as it was")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="as it was"):
        until_interrupted(fail)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_a_shell_runs_in_the_background_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    assert until_interrupted(stop_asked) == (None, False)


def test_deadlines_pass_where_somebody_asks() -> None:
    asked_for = threading.Event()
    with stopping(asked_for.is_set):
        deadline = Deadline(None)
        assert not deadline.passed()
        assert deadline.left_s() is None
        asked_for.set()
        assert deadline.passed()
        assert deadline.left_s() == 1e-3
    assert not Deadline(None).passed()


def test_long_searches_say_how_far_they_are() -> None:
    console = Console(file=StringIO(), width=200)
    with Watch("solve", console, first_s=0.02, every_s=0.02) as watch:
        time.sleep(0.1)
        watch.solving(SolveProgress(objective=0.4, bound=0.3, gap=0.25, seconds=1.0))
        time.sleep(0.2)
        watch.counted(2, 9)
        time.sleep(0.2)
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "solve: 0 s"
    assert "solve: 0 s, plan 0.4, bound 0.3, no plan is more than 25% better" in lines
    assert lines[-1] in {"solve: 0 s, 2 of 9", "solve: 1 s, 2 of 9"}


def test_short_searches_say_nothing() -> None:
    console = Console(file=StringIO())
    with Watch("solve", console):
        pass
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue() == ""


@pytest.mark.long
@pytest.mark.parametrize("solver", ["exact", "highs", "cpsat"])
def test_a_process_ends_well(tmp_path: Path, solver: str) -> None:
    # Strongly correlated costs under four budgets: nobody proves them in a minute.
    document = random_profile(100)
    rng = np.random.default_rng(0)
    spends = [np.sort(rng.integers(1, 1000, (100, 3)), axis=1) for _ in range(4)]
    noise = rng.integers(-10, 10, (100, 3))
    document["costs"] = {"kl": {"values": (5000 - sum(spends) + noise).astype(float).tolist()}}
    document["resources"] = {f"r{at}": {"values": spend.tolist()} for at, spend in enumerate(spends)}
    budgets = [part for at, spend in enumerate(spends) for part in ("-b", f"r{at}={spend.mean(1).sum():.0f}")]
    command = [sys.executable, "-m", "bitalloc", "solve", str(written(tmp_path, document)), *budgets]
    process = subprocess.Popen(
        [*command, "--solver", solver, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell's background has it ignored
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith("solve: "):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    plan = Allocation.model_validate_json(out)
    assert plan.status == "feasible"
    assert plan.gap is not None
    assert plan.notes[-1].text.startswith("stopped by Ctrl-C after ")
