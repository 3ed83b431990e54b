"""A crash is not the answer that no plan exists."""

from __future__ import annotations

import sys

import pytest

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
