"""The bytes that a plan promises are those of the file, within what docs/backends.md names beyond them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import onnx
import pytest
import torch
import transformers
from torch import Tensor, nn

from allocator import Allocation, Profile, solve, total
from quantize import apply
from quantize.checkpoints.safetensors import stored_tensors
from sensitivity import profile_model
from sensitivity.models.layers import quantizable
from sensitivity.pretrained.text_encoder import TextEncoder
from tests.quantize.onnx_reading import initializers

SIZES: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 64,
}  # fmt: skip
ENCODER: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 64,
}  # fmt: skip


def _decoders() -> dict[str, tuple[Any, Any]]:
    return {
        "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**SIZES)),
        "tied llama": (
            transformers.LlamaForCausalLM,
            transformers.LlamaConfig(**SIZES, tie_word_embeddings=True),
        ),
        "mistral": (transformers.MistralForCausalLM, transformers.MistralConfig(**SIZES)),
        "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**SIZES)),
        "qwen3": (transformers.Qwen3ForCausalLM, transformers.Qwen3Config(**SIZES)),
        "mixtral": (
            transformers.MixtralForCausalLM,
            transformers.MixtralConfig(**SIZES, num_local_experts=2),
        ),
    }


def _profiled(model: nn.Module, folder: Path | None, **options: Any) -> Profile:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        said = model(batch, torch.ones_like(batch))
        said = said if isinstance(said, Tensor) else said.logits
        return said.float().square().flatten(1).mean(1)

    batches = [torch.tensor([[1, 2, 3, 4]])]
    formats = ["int4-g32", "int8-g32"]
    return profile_model(model, batches, loss, formats, ["weight_error"], checkpoint=folder, **options)


def _saved(kind: str, folder: Path) -> nn.Module:
    torch.manual_seed(0)
    made, config = _decoders()[kind]
    made(config).to(torch.bfloat16).save_pretrained(folder)
    loaded: nn.Module = made.from_pretrained(folder, dtype=torch.float32).eval()
    return loaded


def _plan(profile: Profile) -> tuple[Allocation, int]:
    plan = solve(profile, budgets={"effective_bits": 6.5})
    assert plan.assignment is not None
    return plan, round(total(profile, "weight_bytes", plan.assignment))


@pytest.mark.parametrize("kind", _decoders())
def test_compressed_tensors_folders_hold_what_was_promised(tmp_path: Path, kind: str) -> None:
    model = _saved(kind, tmp_path / "model")
    # vLLM loads no quantized embedding; the experts of a checkpoint have no rows.
    exclude = ["model.embed_tokens"] + ["lm_head"] * (kind != "tied llama")
    profile = _profiled(model, tmp_path / "model", units="vllm", exclude=exclude)
    plan, promised = _plan(profile)
    packed = apply(tmp_path / "model", plan, "compressed-tensors", path=tmp_path / "packed")
    stored = sum(item.end - item.start for item in stored_tensors(packed).values())
    shapes = 16 * len(plan.assignment or ())  # the shape of each packed weight
    assert stored == promised + shapes
    files = sum(file.stat().st_size for file in packed.glob("*.safetensors"))
    assert 0 < files - stored < 20_000  # headers


@pytest.mark.parametrize("kind", [kind for kind in _decoders() if kind != "mixtral"])
def test_gguf_files_hold_what_was_promised(tmp_path: Path, kind: str) -> None:
    model = _saved(kind, tmp_path / "model")
    profile = _profiled(model, tmp_path / "model")
    plan, promised = _plan(profile)
    path = apply(tmp_path / "model", plan, "gguf", path=tmp_path / "model.gguf")
    tensors = gguf.GGUFReader(path).tensors
    stored = sum(int(tensor.n_bytes) for tensor in tensors)
    widened = sum(  # vectors are stored in single precision
        4 * item.parameters - item.stored_bytes for item in profile.outside or () if item.reason != "buffer"
    )
    assert stored == promised + widened
    assert (
        0 < path.stat().st_size - stored < 20_000 + 32 * len(tensors)
    )  # header, and the start of each tensor


DISTILBERT = {"dim": 64, "hidden_dim": 96, "n_layers": 1, "n_heads": 2, "vocab_size": 128}
ENCODERS = ("Bert", "Roberta", "Electra", "DistilBert", "Albert")


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.thorough
def test_onnx_files_hold_what_was_promised(tmp_path: Path, kind: str) -> None:
    from quantize.backends.onnxruntime.export import export_onnx

    torch.manual_seed(0)
    sizes = DISTILBERT if kind == "DistilBert" else ENCODER
    config = getattr(transformers, f"{kind}Config")(**sizes)
    pooled = {"add_pooling_layer": False} if kind in {"Bert", "Roberta", "Albert"} else {}
    model = TextEncoder(getattr(transformers, f"{kind}Model")(config, **pooled)).eval()
    sliced = [name for name in quantizable(model) if re.search("position_emb|token_type", name)]
    profile = _profiled(model, None, exclude=sliced)
    plan, promised = _plan(profile)
    tokens = torch.tensor([[1, 2, 3, 4]])
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    axes = {name: {0: "batch", 1: "tokens"} for name in inputs}
    layers = list(plan.assignment or ())
    source = export_onnx(model, inputs, tmp_path / "source.onnx", layers=layers, dynamic=axes)
    path = apply(source, plan, "onnxruntime", path=tmp_path / "model.onnx")
    stored = sum(value.nbytes for value in initializers(onnx.load(path)).values())
    # Constants of the graph, buffers that it does not use, and a token type that is added to every position.
    assert abs(stored - promised) < 2_000
    assert 0 < path.stat().st_size - stored < 60_000  # nodes and names
