"""Bars in a terminal, lines elsewhere, and nothing where quiet was asked for."""

from __future__ import annotations

import re
import time
from io import StringIO

import pytest
from rich.console import Console

from sensitivity.profiling.progress import Bars


def _terminal(kind: str = "xterm-256color") -> Console:
    environment = {"TERM": kind}
    return Console(file=StringIO(), force_terminal=True, width=100, color_system=None, _environ=environment)


def _file() -> Console:
    return Console(file=StringIO(), force_terminal=False, width=100)


def _written(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_elsewhere_a_finished_stage_is_one_line() -> None:
    console = _file()
    with Bars(console) as bars:
        for done in (1, 2, 3):
            bars("fisher", done, 3)
    assert re.fullmatch(r"fisher: 3 of 3, \d+\.\d s\n", _written(console))


def test_elsewhere_an_unfinished_stage_is_silent() -> None:
    console = _file()
    with Bars(console) as bars:
        bars("fisher", 1, 3)
        bars("fisher", 2, 3)
    assert _written(console) == ""


def test_elsewhere_every_stage_has_its_own_line_and_its_own_clock() -> None:
    console = _file()
    with Bars(console) as bars:
        bars("hessian_trace", 1, 2)
        time.sleep(0.25)
        bars("hessian_trace", 2, 2)
        bars("fisher", 1, 2)
        bars("fisher", 2, 2)
    first, second = _written(console).splitlines()
    assert float(first.removeprefix("hessian_trace: 2 of 2, ").removesuffix(" s")) >= 0.2
    assert second == "fisher: 2 of 2, 0.0 s"


def test_the_first_step_of_a_stage_takes_time_too() -> None:
    console = _file()
    with Bars(console) as bars:
        time.sleep(0.25)
        bars("fisher", 1, 1)
    assert float(_written(console).removeprefix("fisher: 1 of 1, ").removesuffix(" s\n")) >= 0.2


def test_elsewhere_a_long_stage_speaks_now_and_then_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("sensitivity.profiling.progress.time.monotonic", lambda: now[0])
    console = _file()
    with Bars(console, every_s=30) as bars:
        for done in range(1, 101):
            now[0] += 4 if done <= 50 else 0.5
            bars("kl", done, 100)
    assert _written(console).splitlines() == [
        "kl: 8 of 100, 4.0 s each, 6 min left",
        "kl: 16 of 100, 4.0 s each, 6 min left",
        "kl: 24 of 100, 4.0 s each, 5 min left",
        "kl: 32 of 100, 4.0 s each, 5 min left",
        "kl: 40 of 100, 4.0 s each, 4 min left",
        "kl: 48 of 100, 4.0 s each, 3 min left",
        "kl: 94 of 100, 2.3 s each, 14 s left",
        "kl: 100 of 100, 225.0 s",
    ]


def test_what_a_journal_remembered_does_not_count_as_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("sensitivity.profiling.progress.time.monotonic", lambda: now[0])
    console = _file()
    with Bars(console, every_s=10) as bars:
        now[0] = 10.0
        bars("kl", 900, 1000)
        now[0] = 20.0
        bars("kl", 905, 1000)
        now[0] = 30.0
        bars("kl", 950, 1000)
    assert _written(console).splitlines() == [
        "kl: 900 of 1000, time left unknown",
        "kl: 905 of 1000, 2.0 s each, 3 min left",
        "kl: 950 of 1000, 2.5/s, 20 s left",
    ]


def test_in_a_terminal_a_bar_has_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("sensitivity.profiling.progress.time.monotonic", lambda: now[0])
    console = _terminal()
    with Bars(console) as bars:
        bars("kl", 1, 8)
        now[0] = 1.0
        bars("kl", 5, 8)
    frame = _written(console).rsplit("\r", 1)[-1]
    assert re.search(r"kl .*━+.* 5/8 4\.0/s \d:\d\d:\d\d (-|\d):", frame)


def test_in_a_terminal_every_stage_is_a_bar() -> None:
    console = _terminal()
    with Bars(console) as bars:
        bars("hessian_trace", 1, 8)
        bars("hessian_trace", 8, 8)
        bars("fisher", 3, 4)
    frame = _written(console).rsplit("\r", 1)[-1]
    assert re.search(r"hessian_trace .*━+.* 8/8 ", frame)
    assert re.search(r"fisher .*━+.* 3/4 ", frame)


def test_in_a_terminal_there_are_no_lines() -> None:
    console = _terminal()
    with Bars(console) as bars:
        bars("fisher", 1, 1)
    assert "1/1" in _written(console)
    assert "1 of 1" not in _written(console)


@pytest.mark.parametrize("console", [_terminal(), _file()], ids=["terminal", "file"])
def test_quiet_is_silent_everywhere(console: Console) -> None:
    with Bars(console, quiet=True) as bars:
        bars("fisher", 1, 2)
        bars("fisher", 2, 2)
    assert _written(console) == ""


def test_an_error_passes_through_and_gives_the_cursor_back() -> None:
    console = _terminal()

    def fail() -> None:
        with Bars(console) as bars:
            bars("fisher", 1, 2)
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        fail()
    hide, show = "\x1b[?25l", "\x1b[?25h"
    written = _written(console)
    assert hide in written
    assert written.rindex(show) > written.rindex(hide)


def test_progress_goes_to_standard_error_so_that_results_can_be_piped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Bars() as bars:
        bars("fisher", 1, 1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fisher: 1 of 1")


def test_a_dumb_terminal_gets_lines_rather_than_bars() -> None:
    console = _terminal("dumb")
    with Bars(console) as bars:
        bars("fisher", 1, 2)
        bars("fisher", 2, 2)
    assert _written(console).startswith("fisher: 2 of 2, ")
