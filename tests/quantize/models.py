"""Small real models for the backends, and their export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from quantize import parse_format, round_trip
from quantize.backends.onnxruntime.export import export_onnx

#: A first dimension and a length that the exporter has not seen.
TOKENS = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 49, 0]])


class Tokens(nn.Module):
    """Embedding, Linear, activation, Linear without bias; tokens may be pooled, which makes its Linears see matrices.

    Rows of different layers have different lengths, so that mixed-up weights do not go unnoticed.
    """

    def __init__(self, width: int = 32, hidden: int = 64, out: int = 16, *, pooled: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, out, bias=False)
        self.pooled = pooled

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embed(tokens)
        if self.pooled:
            hidden = hidden.mean(1)
        result: Tensor = self.down(nn.functional.gelu(self.up(hidden)))
        return result


class Tied(nn.Module):
    """The output projection is the embedding, as in most language models."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 32)
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.head(self.embed(tokens))
        return result


class Alike(nn.Module):
    """Two layers with weights of their own that happen to be equal, as after an initialisation by a constant."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 128)
        self.first = nn.Linear(128, 128)
        self.second = nn.Linear(128, 128)
        with torch.no_grad():
            self.second.weight.copy_(self.first.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.second(torch.tanh(self.first(self.embed(tokens))))
        return result


def exported(model: nn.Module, path: Path, layers: Sequence[str]) -> Path:
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    axes = {"tokens": {0: "batch", 1: "length"}}
    return export_onnx(model.eval(), {"tokens": tokens}, path, layers=layers, dynamic=axes)


def tiny_llama() -> nn.Module:
    """Two blocks, half as many heads for keys as for queries, rows of two lengths."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(**sizes, **heads, max_position_embeddings=32, initializer_range=0.2)
    return LlamaForCausalLM(config).eval()


def tiny_decoder(kind: str) -> nn.Module:
    """The same sizes for another architecture; ``llama3`` has its rotary positions."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    stretched = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
    stretched |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    rope = {"rope_parameters": stretched} if kind == "llama3" else {}
    config = AutoConfig.for_model(
        "llama" if kind == "llama3" else kind,
        **sizes,
        **heads,
        **rope,
        max_position_embeddings=256,
        initializer_range=0.2,
    )
    model: nn.Module = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if (
                parameter.dim() == 1
            ):  # biases and norms begin as zeros and ones, which would hide where they go
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def outputs(model: nn.Module, tokens: np.ndarray = TOKENS) -> np.ndarray:
    with torch.no_grad():
        said = model(torch.from_numpy(tokens))
    result: np.ndarray = getattr(said, "logits", said).float().numpy()
    return result


def dequantized(model: nn.Module, plan: dict[str, str], tokens: np.ndarray = TOKENS) -> np.ndarray:
    """What a model says with the reference rounding in place of its weights."""
    originals = {layer: model.get_submodule(layer).weight.detach().clone() for layer in plan}
    with torch.no_grad():
        for layer, name in plan.items():
            rounded = round_trip(originals[layer].numpy(), parse_format(name))
            model.get_submodule(layer).weight.copy_(torch.from_numpy(rounded))
        result: np.ndarray = outputs(model, tokens)
        for layer, original in originals.items():
            model.get_submodule(layer).weight.copy_(original)
    return result
