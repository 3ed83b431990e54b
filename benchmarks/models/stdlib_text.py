"""Text that is on every machine, the source of the Python standard library, and a tokenizer built on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from benchmarks.models.cache import cached
from sensitivity.pretrained.docstrings import source_files

#: Ends every file.
END = "<|end|>"
_TABLES = {"encodings", "pydoc_data"}  # generated
_HELD_OUT = 20  # every twentieth file


@dataclass(frozen=True, eq=False)
class Text:
    """Tokens of the standard library.

    Attributes:
        tokenizer: Byte-level BPE, built on the training files.
        training: (N,) tokens, file after file.
        held_out: (M,) tokens of other files.
    """

    tokenizer: Tokenizer
    training: Tensor
    held_out: Tensor


def stdlib_text(vocabulary: int) -> Text:
    """Read and tokenize the standard library; seconds, or less from the cache.

    Args:
        vocabulary: Number of tokens.

    Returns:
        The text.
    """
    return tokenize(
        [
            path.read_text("utf-8", errors="replace")
            for path in source_files()
            if not _TABLES & set(path.parts)
        ],
        vocabulary,
    )


def tokenize(files: list[str], vocabulary: int) -> Text:
    """Build a tokenizer and use it.

    Args:
        files: Texts; every twentieth, from the first on, is held out.
        vocabulary: Number of tokens.

    Returns:
        The text.
    """
    parts = {
        "held_out": files[::_HELD_OUT],
        "training": [text for index, text in enumerate(files) if index % _HELD_OUT],
    }

    def write_tokenizer(path: Path) -> None:
        _build(parts["training"], vocabulary).save(str(path))

    recipe = [parts, vocabulary]
    tokenizer = Tokenizer.from_file(str(cached("stdlib_tokenizer", ".json", recipe, write_tokenizer)))

    def write_tokens(path: Path) -> None:
        save_file({name: _tokens(tokenizer, texts) for name, texts in parts.items()}, str(path))

    tokens = load_file(cached("stdlib_tokens", ".safetensors", recipe, write_tokens))
    return Text(tokenizer, tokens["training"].long(), tokens["held_out"].long())


def _build(texts: list[str], vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _tokens(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    end = tokenizer.token_to_id(END)
    found = [code for encoded in tokenizer.encode_batch_fast(texts) for code in [*encoded.ids, end]]
    return torch.tensor(found, dtype=torch.int32)
