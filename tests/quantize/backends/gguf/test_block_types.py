"""GGUF files with ggml's own codes, read back by the gguf package."""

from __future__ import annotations

import re
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from allocator import InvalidInputError, MissingPackageError
from quantize import Rounding, apply, formats_of, restored
from quantize.backends.gguf.apply import TYPES
from quantize.checkpoints.safetensors import load_weight, stored_tensors
from quantize.exports import export
from quantize.ggml import library
from quantize.ggml.types import TYPES as BLOCK_TYPES
from quantize.ggml.types import fitting
from tests.quantize.ggml.marks import NEEDS_GGML

#: Rows of 256 but for mlp.down_proj, which has 288.
PLAN = {
    "model.embed_tokens": "q6_k",
    "model.layers.0.self_attn.q_proj": "q4_k",
    "model.layers.0.self_attn.k_proj": "q3_k",
    "model.layers.0.self_attn.v_proj": "iq4_xs",
    "model.layers.0.self_attn.o_proj": "q2_k",
    "model.layers.0.mlp.gate_proj": "iq3_xxs",
    "model.layers.0.mlp.up_proj": "q4_1",
    "model.layers.0.mlp.down_proj": "q4_k",
    "lm_head": "int8-g32",
}
HEADS = {"q_proj": 4, "k_proj": 2}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 256, "intermediate_size": 288, "num_hidden_layers": 1}
    config = LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {name.removesuffix(".weight"): load_weight(item) for name, item in stored_tensors(folder).items()}


def moments(folder: Path) -> dict[str, np.ndarray]:
    inputs = {name: np.random.default_rng(len(name)).normal(size=(50, weight.shape[1])).cumsum(axis=1)
              for name, weight in weights(folder).items() if name in PLAN and "embed" not in name}  # fmt: skip
    return {name: rows.T @ rows for name, rows in inputs.items()}


def tensors(path: Path) -> dict[str, gguf.ReaderTensor]:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
    found = {tensor.name.removesuffix(".weight"): tensor for tensor in gguf.GGUFReader(path).tensors}
    return {layer: found[names.get_name(layer)] for layer in PLAN}


def in_order(layer: str, values: np.ndarray) -> np.ndarray:
    heads = HEADS.get(layer.rpartition(".")[2])
    if heads is None:
        return values
    return values.reshape(heads, -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)


@NEEDS_GGML
@pytest.mark.parametrize("method", ["nearest", "scale_search"])
def test_every_tensor_is_read_back_as_it_was_measured(checkpoint: Path, tmp_path: Path, method: str) -> None:
    rounding, seconds = Rounding(method), moments(checkpoint)
    path = apply(checkpoint, PLAN, "gguf", path=tmp_path / "out.gguf", rounding=rounding, moments=seconds)
    original, found = weights(checkpoint), tensors(path)
    for layer, fmt in formats_of(PLAN).items():
        tensor = found[layer]
        expected = restored(original[layer], fmt, rounding, seconds.get(layer))
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(in_order(layer, values), expected), layer
        assert tensor.n_bytes == fmt.stored_bytes(original[layer].shape)
        kind = "q8_0" if fmt.codec is None else fitting(fmt.name, original[layer].shape[1]).name
        assert tensor.tensor_type.name.lower() == kind
    assert found["model.layers.0.mlp.down_proj"].tensor_type.name == "Q5_0"


@NEEDS_GGML
def test_the_export_names_the_same_types(checkpoint: Path, tmp_path: Path) -> None:
    shapes = {name: weight.shape for name, weight in weights(checkpoint).items() if name in PLAN}
    done = export(PLAN, "llama.cpp", shapes=shapes)
    lines = dict(line.rsplit("=", 1) for line in done.files["tensor-types.txt"].split())
    found = tensors(apply(checkpoint, PLAN, "gguf", path=tmp_path / "out.gguf", moments=moments(checkpoint)))
    for layer, tensor in found.items():
        pattern = next(pattern for pattern in lines if re.search(pattern, tensor.name))
        assert lines[pattern].upper() == tensor.tensor_type.name, layer
    assert [loss.instead for loss in done.losses] == ["int5-g32"]


@NEEDS_GGML
def test_what_needs_moments_is_refused_without_and_nothing_is_written(
    checkpoint: Path, tmp_path: Path
) -> None:
    plan = {"model.embed_tokens": "iq2_s", "model.layers.0.mlp.up_proj": "iq2_xs"}
    with pytest.raises(InvalidInputError) as caught:
        apply(checkpoint, plan, "gguf", path=tmp_path / "out.gguf")
    assert [fault.pointer for fault in caught.value.faults] == [f"/moments/{layer}" for layer in plan]
    assert "give moments, or choose a format that needs none" in str(caught.value)
    with pytest.raises(
        InvalidInputError, match="rows of 288 are not whole blocks of 64, and nvfp4 has no fallback"
    ):
        apply(checkpoint, {"model.layers.0.mlp.down_proj": "nvfp4"}, "gguf", path=tmp_path / "out.gguf")
    assert not list(tmp_path.iterdir())


def test_without_ggml_nothing_is_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.library.cache_clear()
    monkeypatch.setattr(library, "PACKAGE", "no_such_package_of_ggml")
    with pytest.raises(MissingPackageError, match=r"pip install 'bitalloc\[ggml\]'"):
        apply(checkpoint, {"lm_head": "q4_k"}, "gguf", path=tmp_path / "out.gguf")
    assert not list(tmp_path.iterdir())
    assert apply(checkpoint, {"lm_head": "int8-g32"}, "gguf", path=tmp_path / "out.gguf").exists()
    library.library.cache_clear()


def test_the_backend_has_every_type_of_ggml() -> None:
    assert set(BLOCK_TYPES) - set(TYPES) == {"q4_0", "q5_0", "q8_0"}  # by the names of their twins
