"""Text that is on every machine."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from sensitivity.pretrained.docstrings import docstring_pairs

REST = (
    "It goes on with a second sentence that is long enough to count as a document of its own, and then some."
)


def write(folder: Path, name: str, query: str, rest: str = REST) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'"""{query}\n\n    {rest}\n"""\n')


def queries(folder: Path, count: int = 100) -> list[str]:
    return [query for query, _ in docstring_pairs(count, folder)]


def test_the_first_sentence_finds_the_rest(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "Return the answer to everything.", f"{REST}\n    {REST}")
    assert docstring_pairs(5, tmp_path) == [("Return the answer to everything.", f"{REST} {REST}")]


def test_modules_classes_and_functions_count(tmp_path: Path) -> None:
    text = "\n".join(
        [
            f'"""Describe the module first. {REST}"""',
            "class A:",
            f'    """Describe the class next. {REST}"""',
            "    def method(self):",
            f'        """Describe the method then! {REST}"""',
            "async def later():",
            f'    """Describe the coroutine last? {REST}"""',
            f'value = """Describe no assignment at all. {REST}"""',
        ]
    )
    (tmp_path / "a.py").write_text(text)
    assert sorted(queries(tmp_path)) == [
        "Describe the class next.",
        "Describe the coroutine last?",
        "Describe the method then!",
        "Describe the module first.",
    ]


@pytest.mark.parametrize(
    ("query", "rest"),
    [
        ("Too short.", REST),
        ("No document follows this sentence.", "Only this."),
        ("A sentence without an end", ""),
    ],
)
def test_docstrings_that_make_no_pair_are_passed_over(tmp_path: Path, query: str, rest: str) -> None:
    write(tmp_path, "a.py", query, rest)
    assert queries(tmp_path) == []


def test_no_query_comes_twice(tmp_path: Path) -> None:
    for name in ("a.py", "b.py", "c.py"):
        write(tmp_path, name, "Return the same thing again.")
    write(tmp_path, "d.py", "Return another thing at last.")
    assert sorted(queries(tmp_path)) == ["Return another thing at last.", "Return the same thing again."]


def test_the_count_is_a_limit_and_the_first_pairs_stay_the_same(tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path, f"folder{number % 3}/file{number}.py", f"Return the number {number} as it is.")
    everything = queries(tmp_path)
    assert len(everything) == 10
    assert queries(tmp_path, 4) == everything[:4]
    assert queries(tmp_path, 0) == []


def test_the_order_depends_on_names_and_not_on_the_file_system(tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path / "one", f"file{number}.py", f"Return the number {number} as it is.")
        write(tmp_path / "two", f"file{9 - number}.py", f"Return the number {9 - number} as it is.")
    assert queries(tmp_path / "one") == queries(tmp_path / "two")
    # Sorted by name, all pairs would come from the same corner of the library.
    assert queries(tmp_path / "one") != sorted(queries(tmp_path / "one"))


def test_files_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "good.py", "Return the answer to everything.")
    (tmp_path / "broken.py").write_text(f'"""Describe a broken module. {REST}"""\ndef (:\n')
    (tmp_path / "latin.py").write_bytes(f'"""Describe a caf\xe9 of old. {REST}"""'.encode("latin-1"))
    (tmp_path / "null.py").write_bytes(f'"""Describe a null byte. {REST}"""\n\0'.encode())
    (tmp_path / "folder.py").mkdir()
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling.py")
    assert queries(tmp_path) == ["Return the answer to everything."]


@pytest.mark.parametrize("folder", ["site-packages", "deep/test", "tests", "idlelib", "__pycache__"])
def test_packages_and_tests_are_left_out(tmp_path: Path, folder: str) -> None:
    write(tmp_path, "good.py", "Return the answer to everything.")
    write(tmp_path, f"{folder}/more.py", "Return what nobody asked for.")
    assert queries(tmp_path) == ["Return the answer to everything."]


def test_files_with_old_escapes_are_read_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(f'"""Describe a module of old. {REST}"""\npattern = "\\d"\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert queries(tmp_path) == ["Describe a module of old."]


def test_the_standard_library_has_pairs_in_the_same_order_every_time(pairs: list[tuple[str, str]]) -> None:
    assert docstring_pairs(8) == pairs
    assert len(dict(pairs)) == 8
    for query, document in pairs:
        assert 20 < len(query) <= 201
        assert query[-1] in ".!?"
        assert len(document) >= 80
