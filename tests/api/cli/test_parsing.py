"""`name=value` options and files."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from allocator import InvalidInputError
from api.cli.parsing import amount, lists, objects, pairs, write


def test_the_last_equals_sign_separates_for_names_may_hold_one() -> None:
    assert pairs("--pin", ["a=b=int4", " layer.0 = int8 "]) == {"a=b": "int4", "layer.0": "int8"}


def test_no_options_are_no_pairs() -> None:
    assert pairs("--pin", []) == {}
    assert lists("--allow", []) == {}


@pytest.mark.parametrize("text", ["weight_bytes", "", "=5", "  =5"])
def test_what_is_not_a_pair_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^--budget: expected NAME=VALUE, got '{text}'$"):
        pairs("--budget", [text])


def test_a_name_that_comes_twice_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"^--pin: 'up' is given twice$"):
        pairs("--pin", ["up=int4", "down=int4", " up=int8"])


def test_lists_are_separated_by_commas() -> None:
    assert lists("--allow", ["up=int4, int8", "*=fp16"]) == {"up": ("int4", "int8"), "*": ("fp16",)}


def test_lists_are_refused_like_pairs() -> None:
    with pytest.raises(InvalidInputError, match=r"^--allow: expected NAME=VALUE, got 'int4,int8'$"):
        lists("--allow", ["int4,int8"])
    with pytest.raises(InvalidInputError, match=r"^--forbid: 'up' is given twice$"):
        lists("--forbid", ["up=int4", "up=int8"])


@pytest.mark.parametrize(
    ("text", "value"), [("4.25", 4.25), ("7000", 7000.0), ("1e6", 1e6), ("7 KiB", "7 KiB"), ("", "")]
)
def test_an_amount_is_a_number_where_it_can_be(text: str, value: float | str) -> None:
    assert amount(text) == value


def test_writing_makes_the_folders_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "plan.json"
    write(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("earlier")
    with pytest.raises(UnicodeEncodeError):
        write(path, "begins well" + "x" * 100_000 + "\ud800")
    assert path.read_text() == "earlier"
    assert [item.name for item in tmp_path.iterdir()] == ["plan.json"]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_text)
        write(pipe, "a plan\n")
        assert read.result(10) == "a plan\n"
    assert pipe.is_fifo()


def test_writing_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("much longer than the new content")
    write(path, "new")
    assert path.read_text() == "new"


def test_writing_over_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=f"^--out: cannot write '{tmp_path}': Is a directory$"):
        write(tmp_path, "new")


def test_writing_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(InvalidInputError, match=r"^--out: cannot write '.*/file/plan.json': "):
        write(tmp_path / "file" / "plan.json", "new")
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("text", ["[1]", "{", "max=1"])
def test_refuses_what_is_no_json_object(text: str) -> None:
    with pytest.raises(
        InvalidInputError, match=f"--limit: expected a JSON object, got {re.escape(repr(text))}"
    ):
        objects("--limit", [text])
