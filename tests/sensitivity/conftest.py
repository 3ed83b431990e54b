"""The real encoder, loaded and exported once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sensitivity import discover
from sensitivity.pretrained.docstrings import docstring_pairs
from sensitivity.pretrained.text_encoder import TextEncoder, Tokenizer, load_text_encoder, minilm_folder
from sensitivity.pretrained.text_export import export_encoder
from sensitivity.profiling.encoder_profile import EXCLUDED


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine, threads that wait for each other make small convolutions fifty times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def loaded() -> tuple[TextEncoder, Tokenizer]:
    return load_text_encoder(minilm_folder(), max_tokens=64)


@pytest.fixture(scope="session")
def encoder(loaded: tuple[TextEncoder, Tokenizer]) -> TextEncoder:
    """all-MiniLM-L6-v2; tests must leave it as it is."""
    return loaded[0]


@pytest.fixture(scope="session")
def tokenizer(loaded: tuple[TextEncoder, Tokenizer]) -> Tokenizer:
    return loaded[1]


@pytest.fixture(scope="session")
def pairs() -> list[tuple[str, str]]:
    """Eight pairs of real text."""
    return docstring_pairs(8)


@pytest.fixture(scope="session")
def encoder_file(
    encoder: TextEncoder, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """all-MiniLM-L6-v2 as an ONNX file; tests must not change it.

    Warnings are errors here too, so this also shows that exporting does not warn.
    """
    layers = [layer.name for layer in discover(encoder, EXCLUDED)]
    return export_encoder(encoder, tokenizer, tmp_path_factory.mktemp("encoder") / "encoder.onnx", layers)
