"""Causal language models: windows of tokens in, what they say of the next token out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError
from allocator.contract.errors import require
from sensitivity.models.checkpoint_names import name_as_stored
from sensitivity.models.pretrained import load_tokenizer, loaded, require_model
from sensitivity.models.quiet_transformers import quiet

_WINDOWS_PER_BATCH = 4


def load_language_model(folder: Path) -> tuple[nn.Module, Any]:
    """Load a causal language model from disk, never from a hub.

    Args:
        folder: Folder with ``config.json``, weights and tokenizer.

    Returns:
        The model in single precision and evaluation mode, its modules named as in the checkpoint, and its tokenizer.

    Raises:
        InvalidInputError: The folder is not that of a causal language model with a tokenizer, or it is quantized.
        MissingPackageError: transformers is not installed.
    """
    transformers = require("transformers", "models")
    require_model(folder)
    with quiet(transformers):
        model = loaded(transformers.AutoModelForCausalLM, folder)
        tokenizer = load_tokenizer(transformers, folder)
    name_as_stored(model, folder)
    return model, tokenizer


def windows(tokenizer: Any, text: str, length: int, count: int) -> list[Tensor]:  # noqa: ANN401
    """Cut windows out of a text, at equal distances, so that they come from all over it.

    Args:
        tokenizer: Of transformers.
        length: Tokens of a window, T, at least 2.
        count: Windows to cut; fewer where the text has fewer that do not overlap.

    Returns:
        Batches of at most 4 windows, each (B, T).

    Raises:
        InvalidInputError: A window has less than 2 tokens, there is less than one window, or the text is shorter.
    """
    if length < 2 or count < 1:
        detail = f"expected at least 1 window of at least 2 tokens, got {count} of {length}"
        raise InvalidInputError(Fault("/text", detail))
    with quiet(require("transformers", "models")):  # which warns of texts longer than the model reads
        found = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    most = len(found) // length
    if most < 1:
        detail = f"expected a text of at least {length} tokens, one window, got {len(found)}"
        raise InvalidInputError(Fault("/text", detail))
    taken = min(count, most)
    starts = torch.arange(taken) * (len(found) - length) // max(taken - 1, 1)
    cut = found[starts[:, None] + torch.arange(length)]  # (N, T)
    return list(torch.split(cut, _WINDOWS_PER_BATCH))


def logits(model: nn.Module, batch: Tensor) -> Tensor:
    """What a language model says about the next token.

    Args:
        batch: (B, T) tokens.

    Returns:
        (B, T, V) logits.
    """
    said: Tensor = model(batch).logits
    return said


def next_token_loss(model: nn.Module, batch: Tensor) -> Tensor:
    """The loss that language models are trained with.

    Args:
        batch: (B, T) tokens.

    Returns:
        (B,) nats, averaged over the T − 1 tokens that have a predecessor.
    """
    said = logits(model, batch)[:, :-1].transpose(1, 2)  # (B, V, T − 1)
    return nn.functional.cross_entropy(said, batch[:, 1:], reduction="none").mean(1)
