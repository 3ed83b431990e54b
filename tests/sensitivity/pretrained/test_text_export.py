"""The real encoder as an ONNX file: the same embeddings, before and after quantization."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from allocator import MissingPackageError
from quantize import apply, parse_format
from sensitivity import discover
from sensitivity.pretrained.retrieval import RetrievalTask
from sensitivity.pretrained.text_encoder import TextEncoder, Tokenizer, encode
from sensitivity.pretrained.text_export import onnx_encoder
from sensitivity.profiling.encoder_profile import EXCLUDED
from tests.quantize.onnx_reading import payload

Pairs = list[tuple[str, str]]


def test_the_file_gives_the_same_embeddings_for_any_batch_and_length(
    encoder: TextEncoder, tokenizer: Tokenizer, encoder_file: Path
) -> None:
    run = onnx_encoder(encoder_file)
    for texts in (["One."], ["Two of them.", "The second one is a good deal longer."], ["word " * 100] * 5):
        batch = tokenizer(texts)
        with torch.no_grad():
            expected = encode(encoder, batch)
        np.testing.assert_allclose(run(batch), expected, atol=1e-5)


def test_the_quantized_file_is_smaller_by_what_the_formats_say_and_finds_the_same_documents(
    encoder: TextEncoder, tokenizer: Tokenizer, encoder_file: Path, pairs: Pairs, tmp_path: Path
) -> None:
    layers = discover(encoder, EXCLUDED)
    plan = {layer.name: "int8-g64" for layer in layers}
    path = apply(encoder_file, plan, "onnxruntime", path=tmp_path / "int8.onnx")
    fmt = parse_format("int8-g64")
    saved = sum(4 * layer.weight.numel() - fmt.stored_bytes(layer.weight.shape) for layer in layers)
    assert payload(encoder_file) - payload(path) == saved
    task = RetrievalTask.of(pairs, tokenizer, lambda batch: encode(encoder, batch))
    original, quantized = (
        task.evaluate(lambda batch: encode(encoder, batch)),
        task.evaluate(onnx_encoder(path)),
    )
    assert 0 < quantized.distance < 0.005
    assert quantized.recall_at_1 == original.recall_at_1


def test_without_onnxruntime_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, encoder_file: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"onnxruntime is needed here .* 'bitalloc\[onnx\]'"):
        onnx_encoder(encoder_file)
