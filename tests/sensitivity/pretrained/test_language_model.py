"""Windows of a text, and language models from folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from allocator import InvalidInputError
from sensitivity.pretrained.language_model import load_language_model, logits, next_token_loss, windows
from tests.sensitivity.decoders import TOKENS, llama


def letters(text: str, **options: object) -> dict[str, list[int]]:
    """A tokenizer: one token for each letter."""
    assert options == {"add_special_tokens": False}
    return {"input_ids": [ord(letter) - ord("a") for letter in text]}


def test_windows_come_from_all_over_the_text() -> None:
    (batch,) = windows(letters, "abcdefghij", length=3, count=2)
    assert batch.tolist() == [[0, 1, 2], [7, 8, 9]]
    batches = windows(letters, "abcdefghijklmnopqrst", length=2, count=9)
    assert [len(batch) for batch in batches] == [4, 4, 1]
    found = torch.cat(batches)
    assert found[0].tolist() == [0, 1]
    assert found[-1].tolist() == [18, 19]
    assert (found[:, 0].diff() >= 2).all()


def test_there_are_no_more_windows_than_fit_side_by_side() -> None:
    (batch,) = windows(letters, "abcdefgh", length=3, count=50)
    assert batch.tolist() == [[0, 1, 2], [5, 6, 7]]
    (single,) = windows(letters, "abcd", length=4, count=1)
    assert single.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "length", "count", "match"),
    [
        ("abc", 4, 1, "/text: expected a text of at least 4 tokens, one window, got 3"),
        ("abc", 1, 1, "/text: expected at least 1 window of at least 2 tokens, got 1 of 1"),
        ("abc", 2, 0, "/text: expected at least 1 window of at least 2 tokens, got 0 of 2"),
    ],
)
def test_windows_that_cannot_be_cut(text: str, length: int, count: int, match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        windows(letters, text, length, count)


def test_losses_are_those_of_transformers() -> None:
    model: Any = llama()
    with torch.no_grad():
        expected = [float(model(row[None], labels=row[None]).loss) for row in TOKENS]
        assert next_token_loss(model, TOKENS).tolist() == pytest.approx(expected, rel=1e-5)
        assert logits(model, TOKENS).shape == (3, 7, 50)


def test_a_folder_that_is_no_language_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="/model: expected a folder with"):
        load_language_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(InvalidInputError, match=r"/model: .* cannot be loaded: "):
        load_language_model(tmp_path)
