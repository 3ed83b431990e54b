"""Models small enough to measure in a test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a real transformers encoder of one layer, with the tokenizer of all-MiniLM-L6-v2."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-encoder"
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
    BertModel(BertConfig(vocab_size=30522, **sizes), add_pooling_layer=False).save_pretrained(folder)
    _add_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a real Llama of one block, with the tokenizer of all-MiniLM-L6-v2."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
    LlamaForCausalLM(LlamaConfig(vocab_size=30522, initializer_range=0.2, **sizes)).save_pretrained(folder)
    _add_tokenizer(folder)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Real text: docstrings of the standard library."""
    from sensitivity.pretrained.docstrings import docstring_pairs

    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(document for _, document in docstring_pairs(40)))
    return path


def _add_tokenizer(folder: Path) -> None:
    from sensitivity.pretrained.text_encoder import minilm_folder

    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (minilm_folder() / name).exists():
            shutil.copy(minilm_folder() / name, folder)
