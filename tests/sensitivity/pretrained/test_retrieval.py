"""Metrics on embeddings made by hand, and the real encoder against itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from allocator import InvalidInputError
from sensitivity.pretrained.retrieval import Encode, Quality, RetrievalTask
from sensitivity.pretrained.text_encoder import TextEncoder, Tokenizer, encode


def encoder_of(embeddings: ArrayLike) -> Encode:
    """An encoder that reads off the row of each text."""
    rows = torch.tensor(np.array(embeddings, dtype=np.float32))

    def read(batch: Mapping[str, Tensor]) -> Tensor:
        return rows[batch["input_ids"][:, 0]]

    return read


def task_of(reference: ArrayLike, batches: Sequence[Sequence[int]]) -> RetrievalTask:
    """A task whose batches hold the given texts, by number."""
    tokens = tuple({"input_ids": torch.tensor(batch)[:, None]} for batch in batches)
    order = tuple(index for batch in batches for index in batch)
    return RetrievalTask(tokens, order, np.array(reference, dtype=float))


X, Y, Z = [1, 0, 0], [0, 1, 0], [0, 0, 1]
#: Queries 0, 1, 2, then documents 3, 4, 5.
PERFECT = [X, Y, Z, X, Y, Z]


def test_the_original_is_at_distance_zero_and_finds_everything() -> None:
    quality = task_of(PERFECT, [[0, 1, 2, 3, 4, 5]]).evaluate(encoder_of(PERFECT))
    assert quality == Quality(distance=0, recall_at_1=1, mrr=1)


def test_swapped_documents_by_hand() -> None:
    # Scores of the three queries against documents x, z, (0.6, 0.8, 0):
    #   x: 1, 0, 0.6, its own comes first; y: 0, 0, 0.8, its own comes second, after the third document and level with
    #   none better; z: 0, 1, 0, its own comes last, for a tie counts against it.
    swapped = [X, Y, Z, X, Z, [0.6, 0.8, 0]]
    tilted = [X, [0, 0.8, 0.6], Z, X, Z, [0.6, 0.8, 0]]
    # y becomes (0, 0.8, 0.6): scores 0, 0.6, 0.64, so that its own document stays second without a tie.
    quality = task_of(swapped, [[0, 1, 2, 3, 4, 5]]).evaluate(encoder_of(tilted))
    assert quality.recall_at_1 == pytest.approx(1 / 3)
    assert quality.mrr == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    # Only the second query moved, to a cosine of 0.8: the mean over 6 texts of 1 - cosine is 0.2 / 6.
    assert quality.distance == pytest.approx(0.2 / 6, rel=1e-6)


def test_last_ranks_count_as_one_over_their_number() -> None:
    # The own document is opposite to its query, all others are better.
    angles = np.deg2rad([0, 120, 240])
    queries = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    embeddings = np.concatenate([queries, -queries])
    quality = task_of(embeddings, [[0, 1, 2, 3, 4, 5]]).evaluate(encoder_of(embeddings))
    assert quality.recall_at_1 == 0
    assert quality.mrr == pytest.approx(1 / 3)
    assert quality.distance == pytest.approx(0, abs=1e-6)


def test_texts_come_back_in_their_order_whatever_the_batches() -> None:
    embeddings = np.eye(6)
    for batches in ([[0, 1, 2, 3, 4, 5]], [[5, 3], [0, 4], [2, 1]], [[2], [5], [1], [0], [4], [3]]):
        assert np.array_equal(task_of(embeddings, batches).embed(encoder_of(embeddings)), embeddings)


def test_an_encoder_that_says_the_same_of_every_text_finds_nothing() -> None:
    quality = task_of(PERFECT, [[0, 1, 2, 3, 4, 5]]).evaluate(encoder_of([X] * 6))
    assert quality.recall_at_1 <= 1 / 3
    assert quality.mrr < 1


def test_an_encoder_that_is_broken_does_not_find_everything() -> None:
    task = task_of(PERFECT, [[0, 1, 2, 3, 4, 5]])
    with pytest.raises(
        InvalidInputError, match="/model: the encoder gives embeddings that are NaN or infinite"
    ):
        task.evaluate(encoder_of(np.full((6, 3), np.nan)))


def test_a_task_of_real_text(
    encoder: TextEncoder, tokenizer: Tokenizer, pairs: list[tuple[str, str]]
) -> None:
    task = RetrievalTask.of(pairs, tokenizer, lambda batch: encode(encoder, batch))
    assert task.reference.shape == (16, 384)
    texts = [query for query, _ in pairs] + [document for _, document in pairs]
    with torch.inference_mode():
        alone = torch.cat([encode(encoder, tokenizer([text])) for text in texts])
    np.testing.assert_allclose(task.reference, alone, atol=2e-6)
    quality = task.evaluate(lambda batch: encode(encoder, batch))
    assert quality.distance == pytest.approx(0, abs=1e-6)
    # By chance it would be one in eight.
    assert quality.recall_at_1 >= 0.5
    assert quality.mrr >= quality.recall_at_1


def test_texts_are_batched_by_length_with_at_most_32_rows(tokenizer: Tokenizer) -> None:
    pairs = [("query " * (1 + index % 5), "word " * (1 + index)) for index in range(20)]
    task = RetrievalTask.of(pairs, tokenizer, lambda batch: batch["input_ids"][:, :1].float())
    assert [len(batch["input_ids"]) for batch in task.batches] == [32, 8]
    assert sorted(task.order) == list(range(40))
    widths = [batch["attention_mask"].sum(1).tolist() for batch in task.batches]
    assert max(widths[0]) <= min(widths[1]) + 1
