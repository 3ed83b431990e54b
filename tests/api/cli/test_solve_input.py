"""What bitalloc solve says of input that it cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.cli.profile_files import written
from tests.api.conftest import Run
from tests.api.helpers import tiny


def test_every_fault_has_its_line(bitalloc: Run, tmp_path: Path) -> None:
    path = written(tmp_path, tiny(wieghts=1, layers=[]))
    done = bitalloc("solve", path)
    assert done.code == 2
    assert sorted(line.split(": ")[1] for line in done.err.splitlines()) == ["/layers", "/wieghts"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--wibble"], "No such option: --wibble"),
        (["--gap", "narrow"], "Invalid value for '--gap'"),
        (["--time-limit", "soon"], "Invalid value for '--time-limit'"),
        (["--budget"], "requires an argument"),
        (["another.json"], "unexpected extra argument"),
    ],
)
def test_options_that_do_not_exist_or_parse_end_with_2(
    bitalloc: Run, profile: Path, arguments: list[str], words: str
) -> None:
    done = bitalloc("solve", profile, *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_a_missing_argument_and_an_unknown_command_end_with_2(bitalloc: Run) -> None:
    assert "Missing argument 'profile'" in bitalloc("solve").err
    done = bitalloc("slove")
    assert done.code == 2
    assert "No such command 'slove'" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-b", "weight_bytes"], "error: --budget: expected NAME=VALUE, got 'weight_bytes'\n"),
        (["-b", "kl=1", "-b", "kl=2"], "error: --budget: 'kl' is given twice\n"),
        (["--pin", "up"], "error: --pin: expected NAME=VALUE, got 'up'\n"),
        (["--pin", "up=int4-g64", "--pin", "up=int8-g64"], "error: --pin: 'up' is given twice\n"),
        (["--allow", "up"], "error: --allow: expected NAME=VALUE, got 'up'\n"),
        (["--forbid", "=int4-g64"], "error: --forbid: expected NAME=VALUE, got '=int4-g64'\n"),
    ],
)
def test_an_option_that_is_no_pair_is_named(
    bitalloc: Run, profile: Path, arguments: list[str], message: str
) -> None:
    done = bitalloc("solve", profile, *arguments)
    assert (done.code, done.out, done.err) == (2, "", message)


def test_a_missing_profile_is_named(bitalloc: Run) -> None:
    done = bitalloc("solve", "missing.json")
    assert (done.code, done.out) == (2, "")
    assert "cannot read the profile" in done.err
    assert "No such file" in done.err
    assert "missing.json" in done.err


def test_a_folder_is_no_profile(bitalloc: Run, tmp_path: Path) -> None:
    done = bitalloc("solve", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "Is a directory" in done.err


@pytest.mark.parametrize("content", [b"", b'{"layers": [', b"\xff\xfe", b"layers: []", b"[" * 100_000])
def test_a_file_that_is_not_json_is_refused(bitalloc: Run, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(content)
    done = bitalloc("solve", path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: /: Invalid JSON: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("content", ["[]", "null", "1", '"profile"'])
def test_json_that_is_no_object_is_refused(bitalloc: Run, tmp_path: Path, content: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)
    done = bitalloc("solve", path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: /: Input should be an object")
