"""The standard library as tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.models.stdlib_text import END, tokenize

FILES = [f"def f{index}(x):\n    return x + {index}  # ünïcode\n" for index in range(45)]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITALLOC_CACHE", str(tmp_path))


def test_tokens_are_the_text_again_file_after_file() -> None:
    text = tokenize(FILES, 300)
    held_out = [FILES[0], FILES[20], FILES[40]]
    training = [file for file in FILES if file not in held_out]
    for tokens, files in ((text.training, training), (text.held_out, held_out)):
        said = text.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)
        assert said == "".join(file + END for file in files)


def test_the_vocabulary_is_used_and_kept_to() -> None:
    text = tokenize(FILES, 300)
    assert text.tokenizer.get_vocab_size() == 300
    assert len(text.training) < sum(len(file.encode()) for file in FILES) / 2
    assert int(text.training.max()) < 300


def test_the_second_time_everything_is_read(tmp_path: Path) -> None:
    first = tokenize(FILES, 300)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = tokenize(FILES, 300)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == made
    assert len(made) == 2
    assert torch.equal(first.training, second.training)
    assert first.tokenizer.to_str() == second.tokenizer.to_str()


def test_other_files_or_another_vocabulary_are_other_tokens(tmp_path: Path) -> None:
    tokenize(FILES, 300)
    tokenize(FILES[1:], 300)
    tokenize(FILES, 310)
    assert len(list(tmp_path.iterdir())) == 6
