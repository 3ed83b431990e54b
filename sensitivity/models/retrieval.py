"""How well an encoder finds documents, and how far its embeddings are from the original's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from allocator import Fault, InvalidInputError
from allocator.knapsack.problem import FloatArray
from sensitivity.models.text_encoder import Tokenizer

#: Token batch → (B, D) embeddings.
Encode = Callable[[Mapping[str, Tensor]], Tensor]
_BATCH = 32


@dataclass(frozen=True)
class Quality:
    """What a user of the encoder would notice.

    Attributes:
        distance: Mean of 1 - cosine between the original's embeddings and these, over queries and documents.
        recall_at_1: Share of queries whose own document comes first.
        mrr: Mean reciprocal rank of the own document.
    """

    distance: float
    recall_at_1: float
    mrr: float


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Queries that should find their documents, with the original's embeddings.

    Attributes:
        batches: Token batches, sorted by length.
        order: (N,) text of each row of the batches; queries come first, then documents.
        reference: (N, D) embeddings of the original model.
    """

    batches: tuple[Mapping[str, Tensor], ...]
    order: tuple[int, ...]
    reference: FloatArray

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer, encode: Encode) -> RetrievalTask:
        """Prepare a task.

        Args:
            pairs: (query, document) pairs.
            encode: The original model.

        Returns:
            The task.
        """
        texts = [query for query, _ in pairs] + [document for _, document in pairs]
        order = tuple(sorted(range(len(texts)), key=lambda index: len(texts[index])))
        batches = tuple(
            tokenizer([texts[index] for index in order[start : start + _BATCH]])
            for start in range(0, len(order), _BATCH)
        )
        empty = cls(batches, order, np.empty((0, 0)))
        return cls(batches, order, empty.embed(encode))

    def embed(self, encode: Encode) -> FloatArray:
        """Embed all texts.

        Args:
            encode: The model.

        Returns:
            (N, D), queries first, then documents.
        """
        with torch.inference_mode():
            rows = torch.cat([encode(batch) for batch in self.batches]).double().numpy()
        embeddings = np.empty_like(rows)
        embeddings[list(self.order)] = rows
        return embeddings

    def evaluate(self, encode: Encode) -> Quality:
        """Measure a model against the original.

        Returns:
            Its quality.

        Raises:
            InvalidInputError: An embedding is NaN or infinite.
        """
        embeddings = self.embed(encode)
        if not np.isfinite(embeddings).all():
            raise InvalidInputError(Fault("/model", "the encoder gives embeddings that are NaN or infinite"))
        queries, documents = np.split(embeddings, 2)
        scores = queries @ documents.T  # (N / 2, N / 2)
        ranks = (scores >= np.diag(scores)[:, None]).sum(axis=1) - 1  # a tie counts against the own document
        return Quality(
            distance=float(1 - (self.reference * embeddings).sum(axis=1).mean()),
            recall_at_1=float((ranks == 0).mean()),
            mrr=float((1 / (1 + ranks)).mean()),
        )
