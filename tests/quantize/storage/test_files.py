"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from allocator import InvalidInputError
from quantize.storage.files import replacing, replacing_folder, require_free


def test_a_new_file_appears_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    with replacing(path) as partial:
        partial.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["file.bin"]


def test_an_earlier_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"earlier")
    with replacing(path) as partial:
        partial.write_bytes(b"later")
        assert path.read_bytes() == b"earlier"
    assert path.read_bytes() == b"later"


def _break_off(path: Path, error: BaseException) -> None:
    with replacing(path) as partial:
        partial.write_bytes(b"hal")
        raise error


@pytest.mark.parametrize("error", [RuntimeError("broke"), KeyboardInterrupt("broke")])
def test_an_earlier_file_survives_a_failure_in_the_middle(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"earlier")
    with pytest.raises(type(error), match="broke"):
        _break_off(path, error)
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_failure_leaves_nothing_where_there_was_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broke"):
        _break_off(tmp_path / "file.bin", RuntimeError("broke"))
    assert os.listdir(tmp_path) == []


def test_the_temporary_name_is_in_the_same_folder_so_that_renaming_is_atomic(tmp_path: Path) -> None:
    with replacing(tmp_path / "file.bin") as partial:
        assert partial.parent == tmp_path


def test_others_may_read_the_file(tmp_path: Path) -> None:
    # Temporary files are private, which would otherwise stick to the result.
    path = tmp_path / "file.bin"
    with replacing(path):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_folder_in_the_way_stays_and_the_temporary_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(OSError, match="taken"), replacing(path) as partial:
        partial.write_bytes(b"whole")
    assert os.listdir(tmp_path) == ["taken"]


def _filled(path: Path, content: bytes) -> None:
    with replacing_folder(path) as partial:
        (partial / "file.bin").write_bytes(content)


def test_a_folder_appears_whole_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    _filled(path, b"first")
    (path / "extra").write_bytes(b"")
    _filled(path, b"second")
    assert os.listdir(path) == ["file.bin"]
    assert (path / "file.bin").read_bytes() == b"second"
    assert os.listdir(path.parent) == ["folder"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_an_earlier_folder_comes_back_when_its_place_cannot_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder"
    _filled(path, b"first")
    rename, calls = Path.rename, []

    def second_fails(self: Path, fmt: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, fmt)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(KeyboardInterrupt):
        _filled(path, b"second")
    assert (path / "file.bin").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["folder"]


def test_what_exists_is_not_free_without_force(tmp_path: Path) -> None:
    require_free(tmp_path / "new", force=False)
    require_free(tmp_path, force=True)
    with pytest.raises(
        InvalidInputError, match=r"/path: .* exists; choose another name, or replace it with force=True"
    ):
        require_free(tmp_path, force=False)
