"""A crash is not the answer that no plan exists."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

import pytest
import typer

import api.cli


@pytest.mark.parametrize("error", [KeyError("weight"), RuntimeError("shapes"), ZeroDivisionError()])
def test_a_crash_ends_with_3_and_says_that_it_is_a_bug(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash() -> None:
        raise error

    monkeypatch.setattr(api.cli, "app", crash)
    monkeypatch.setattr(sys, "argv", ["bitalloc"])
    with pytest.raises(SystemExit) as ended:
        api.cli.main()
    assert ended.value.code == 3
    said = capsys.readouterr().err
    assert f"error: a bug in bitalloc, please report it: {type(error).__name__}" in said
    assert "Traceback" in said  # for the report


def _ended(monkeypatch: pytest.MonkeyPatch, app: Callable[[], None]) -> int:
    monkeypatch.setattr(api.cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["bitalloc"])
    with pytest.raises(SystemExit) as ended:
        api.cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("error", [EOFError("a file cut short"), SystemExit("a library gave up")])
def test_what_typer_or_a_library_would_end_with_1_is_a_crash(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def crash() -> None:
        raise error

    assert _ended(monkeypatch, app) == 3
    assert "error: a bug in bitalloc, please report it: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(BrokenPipeError(), 141), (KeyboardInterrupt(), 130), (typer.Exit(1), 1), (typer.Exit(), 0)],
)
def test_other_ends_keep_their_codes_and_say_nothing(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def end() -> None:
        error.errno = errno.EPIPE  # type: ignore[attr-defined]
        raise error

    assert _ended(monkeypatch, app) == code
    assert capsys.readouterr().err == ""


def test_interrupting_before_the_command_began_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert _ended(monkeypatch, interrupted) == 130
