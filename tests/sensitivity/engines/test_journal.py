"""Stopped anywhere and started again, a run ends with the same bits and computes only what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allocator import InvalidInputError
from quantize.storage.records import opened
from sensitivity.engines.journal import Journal
from tests.sensitivity import resumed
from tests.sensitivity.resumed import FORMATS, Noting, run

ROOT = Path(__file__).parents[3]
PIECES = 2 * 5 * len(FORMATS)  # tables × layers × formats


def started(folder: Path, pause_s: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.sensitivity.resumed", str(folder), str(pause_s)]
    return subprocess.Popen(command, cwd=ROOT)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a finished run."""
    path = tmp_path_factory.mktemp("whole") / "run.journal"
    run(Journal(path))
    return path.read_bytes()


def test_killed_in_the_middle_it_goes_on_and_the_profile_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    journal, log = tmp_path / "run.journal", tmp_path / "log"
    process = started(tmp_path, 0.02)
    deadline = time.monotonic() + 60
    while lines(journal) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = lines(journal) - 1
    assert 7 <= kept < PIECES
    assert not (tmp_path / "profile.json").exists()
    before = lines(log)
    assert before - kept in {0, 1}  # the piece that was being computed

    assert started(tmp_path, 0).wait() == 0
    assert lines(log) - before == PIECES - kept
    assert sum(count - 1 for count in Counter(log.read_text().splitlines()[: PIECES // 2]).values()) <= 1
    assert (tmp_path / "profile.json").read_text() == run().model_dump_json()


def test_a_finished_run_is_not_computed_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = run(Journal(tmp_path / "new" / "run.journal", Noting(log)))
    assert lines(log) == PIECES
    assert run(Journal(tmp_path / "new" / "run.journal", Noting(log))) == first == run()
    assert lines(log) == PIECES


def test_progress_goes_on_from_what_was_finished(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "run.journal"
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-3]))
    told: list[tuple[str, int, int]] = []
    run(Journal(path), progress=lambda *step: told.append(step))
    assert told == [("shift", 20, 20), *(("twice", done, 20) for done in (17, 18, 19, 20))]


def test_journals_can_be_stacked(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    run(Journal(inner))
    assert run(Journal(outer, Journal(inner))) == run()
    assert lines(outer) == lines(inner)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_torn_anywhere_the_last_record_is_dropped_and_computed_again(
    tmp_path: Path, whole: bytes, share: float
) -> None:
    path, log = tmp_path / "run.journal", tmp_path / "log"
    path.write_bytes(whole[: round(share * len(whole))])
    kept = max(lines(path) - 1, 0)
    log.unlink(missing_ok=True)
    assert run(Journal(path, Noting(log))) == run()
    assert lines(log) == PIECES - kept
    assert path.read_bytes() == whole


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_changed_byte_is_refused_with_the_offset_of_its_record_and_nothing_is_written(
    tmp_path: Path, whole: bytes, where: float, change: int
) -> None:
    path, log = tmp_path / "run.journal", tmp_path / "log"
    position = int(where * (len(whole) - 1))  # the very last byte would only make the last record a torn one
    damaged = bytearray(whole)
    damaged[position] ^= change
    path.write_bytes(damaged)
    offset = whole.rfind(b"\n", 0, position) + 1
    with pytest.raises(InvalidInputError, match=rf"^/journal: .*run.journal' .* at byte {offset}\b"):
        run(Journal(path, Noting(log)))
    assert path.read_bytes() == damaged
    assert not log.exists()


def test_the_journal_of_another_run_is_refused_and_says_what_differs(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "run.journal"
    path.write_bytes(whole)
    with pytest.raises(
        InvalidInputError, match=r"belongs to another run \(header at byte 0\): seed is 0, not 1;"
    ):
        run(Journal(path), seed=1)
    assert path.read_bytes() == whole


def test_another_model_or_loss_is_another_run(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.journal"
    path.write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "manual_seed", lambda _: None)  # other weights
        with pytest.raises(
            InvalidInputError, match=r"another run .*first_losses_sha256 is .*; model_sha256 is "
        ):
            run(Journal(path))
    with monkeypatch.context() as patch:
        patch.setattr("tests.sensitivity.resumed.squares", lambda model, batch: model(batch).abs().sum(1))
        with pytest.raises(InvalidInputError, match=r"\(header at byte 0\): first_losses_sha256 is "):
            run(Journal(path))
    assert path.read_bytes() == whole


def test_pieces_of_another_function_do_not_count(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, log = tmp_path / "run.journal", tmp_path / "log"
    path.write_bytes(whole)
    doubled = partial(resumed.shift, distance=lambda one, other: 2 * (one - other).square().sum(1))
    monkeypatch.setattr(resumed, "shift", doubled)
    profile = run(Journal(path, Noting(log)))
    assert lines(log) == PIECES
    assert profile == run()


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    for content in (b"my thesis", b"my thesis\n", b"00000000 \n", b"[" * 100 + b"\n"):
        path = tmp_path / "thesis.txt"
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match=r"^/journal: .*thesis.txt' .* byte 0\b"):
            run(Journal(path))
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("text", "words"),
    [(b"{", "is not JSON at byte"), (b"[]", "is not a record at byte"), (b"{}", "is not a record at byte")],
)
def test_checked_lines_that_are_no_records_are_refused(
    tmp_path: Path, whole: bytes, text: bytes, words: str
) -> None:
    path = tmp_path / "run.journal"
    path.write_bytes(whole + b"%08x %s\n" % (zlib.crc32(text), text))
    with pytest.raises(InvalidInputError, match=f"{words} {len(whole)}"):
        run(Journal(path))


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^/journal: .* cannot be written: Is a directory$"):
        run(Journal(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match=r"^/journal: .* cannot be written: File exists$"):
        run(Journal(tmp_path / "file" / "run.journal"))


@pytest.mark.skipif(os.name == "nt", reason="needs advisory locks")
def test_two_runs_cannot_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    with opened(path, {}), pytest.raises(InvalidInputError, match="is in use by another run"):
        run(Journal(path))
