"""What native code prints stays out of standard output."""

from __future__ import annotations

import ctypes
import os

import pytest

from allocator.solvers.mip.quiet import printing_to_stderr


def test_native_prints_go_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    libc = ctypes.CDLL(None)
    with printing_to_stderr():
        libc.printf(b"from C\n")
        os.write(1, b"from the system\n")
    os.write(1, b"ours\n")
    seen = capfd.readouterr()
    assert seen.out == "ours\n"
    assert "from C\n" in seen.err
    assert "from the system\n" in seen.err


def test_errors_pass_and_standard_output_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), printing_to_stderr():
        raise ValueError("inside")
    os.write(1, b"back\n")
    assert capfd.readouterr().out == "back\n"


def test_a_process_without_standard_streams_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: int) -> int:
        raise OSError("closed")

    monkeypatch.setattr(os, "dup", closed)
    with printing_to_stderr():
        done = True
    assert done
