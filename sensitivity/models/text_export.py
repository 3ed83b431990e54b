"""A sentence encoder as an ONNX file, and an ONNX file as a sentence encoder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from allocator.contract.errors import require
from quantize.backends.onnxruntime.export import export_onnx
from sensitivity.models.retrieval import Encode
from sensitivity.models.text_encoder import TextEncoder, Tokenizer

_OUTPUT = "sentence_embedding"


def export_encoder(encoder: TextEncoder, tokenizer: Tokenizer, path: Path, layers: Sequence[str]) -> Path:
    """Export an encoder for any batch size and length.

    Args:
        tokenizer: Its tokenizer, for example inputs.
        layers: Layers that a plan may name.

    Returns:
        ``path``.
    """
    example = tokenizer(["An example of a sentence.", "Another one, which is somewhat longer."])
    axes = {0: "batch", 1: "tokens"}
    return export_onnx(
        encoder, example, path, layers=layers, dynamic=dict.fromkeys(example, axes), output=_OUTPUT
    )


def onnx_encoder(path: Path) -> Encode:
    """Run an exported encoder with ONNX Runtime on the CPU.

    Args:
        path: File made by :func:`export_encoder`, quantized or not.

    Returns:
        A function from token batches to embeddings.

    Raises:
        MissingPackageError: onnxruntime is not installed.
    """
    runtime = require("onnxruntime", "onnx")
    session = runtime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])

    def encode(batch: Mapping[str, Tensor]) -> Tensor:
        (embeddings,) = session.run([_OUTPUT], {name: tensor.numpy() for name, tensor in batch.items()})
        return torch.from_numpy(embeddings)

    return encode
