"""Packed checkpoints as vLLM finds them, and as transformers loads them with the compressed-tensors package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from allocator import InvalidInputError
from quantize import apply, parse_format, quantize
from quantize.exports import read
from tests.quantize.models import dequantized, outputs, tiny_llama

PLAN = {
    "model.layers.0.self_attn.q_proj": "int8-g32",
    "model.layers.0.self_attn.k_proj": "int8-g32",
    "model.layers.0.self_attn.v_proj": "int8-g32",
    "model.layers.0.mlp.gate_proj": "int4-g32",
    "model.layers.0.mlp.up_proj": "int4-g32",
    "model.layers.1.mlp.down_proj": "uint4-g32",
    "model.layers.1.self_attn.o_proj": "int8",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_llama().half().save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.mark.parametrize("bits", range(1, 9))
def test_words_are_those_of_the_package(checkpoint: Path, tmp_path: Path, bits: int) -> None:
    layer = "model.layers.1.mlp.down_proj"  # rows of 96, which end in the middle of a word
    # Zero points of other widths than 4 and 8 bits are packed alike, though nobody loads them.
    plan, path = {layer: f"uint{bits}-g32"}, tmp_path / "out"
    if bits not in {4, 8}:
        with pytest.raises(
            InvalidInputError, match=f"/assignment/{layer}: vllm would not load it .*zero points"
        ):
            apply(checkpoint, plan, "compressed-tensors", path=path)
        assert not path.exists()
    made = apply(checkpoint, plan, "compressed-tensors", path=path, force=True)
    tensors = load_file(made / "model.safetensors")
    weight = load_file(checkpoint / "model.safetensors")[f"{layer}.weight"].float().numpy()
    expected, middle = quantize(weight, parse_format(f"uint{bits}-g32")), 2 ** (bits - 1)
    codes = torch.from_numpy((expected.codes.reshape(64, 96) - middle).astype(np.int8))
    zeros = torch.from_numpy((expected.zeros - middle).astype(np.int8))
    assert torch.equal(tensors[f"{layer}.weight_packed"], pack_to_int32(codes, bits))
    assert torch.equal(
        unpack_from_int32(tensors[f"{layer}.weight_packed"], bits, torch.Size([64, 96])), codes
    )
    assert torch.equal(tensors[f"{layer}.weight_zero_point"], pack_to_int32(zeros, bits, packed_dim=0))
    assert tensors[f"{layer}.weight_shape"].tolist() == [64, 96]


FLOATS = {
    "model.layers.0.mlp.gate_proj": "fp8-e4m3",
    "model.layers.0.mlp.up_proj": "fp8-e4m3",
    "model.layers.1.mlp.down_proj": "mxfp4",
    "model.layers.1.mlp.gate_proj": "mxfp8",
    "model.layers.1.mlp.up_proj": "mxfp8",
    "model.layers.1.self_attn.o_proj": "int4-g32",
}


@pytest.mark.parametrize(
    ("plan", "dtype", "tolerance"),
    [
        (PLAN | {"model.layers.1.mlp.down_proj": "int4-g32"}, torch.float16, 0.02),
        (PLAN | {"model.layers.1.mlp.down_proj": "int8-dynamic"}, torch.float16, 0.02),
        (FLOATS, torch.bfloat16, 0.04),  # the package unpacks MX formats to that
    ],
)
def test_transformers_loads_and_runs_it(
    checkpoint: Path, tmp_path: Path, plan: dict[str, str], dtype: torch.dtype, tolerance: float
) -> None:
    made = apply(checkpoint, plan, "compressed-tensors", path=tmp_path / "out")
    # Zero points are left out: compressed-tensors 0.19 expects unpacked ones here, though it packs them itself.
    loaded = AutoModelForCausalLM.from_pretrained(made, dtype=dtype)
    ours = outputs(loaded)
    original = tiny_llama().half().float()
    expected = dequantized(original, plan)
    # Narrow floats round activations; what quantization itself changes is more than that.
    assert np.abs(ours - expected).max() < tolerance * np.abs(expected).max()
    assert np.abs(outputs(original) - expected).max() > 2 * tolerance * np.abs(expected).max()


def test_the_configuration_reads_back_as_the_plan_and_names_what_is_left_alone(
    checkpoint: Path, tmp_path: Path
) -> None:
    made = apply(checkpoint, PLAN, "compressed-tensors", path=tmp_path / "out")
    config = json.loads((made / "config.json").read_text())
    assert {key: config[key] for key in ("model_type", "hidden_size")} == {
        "model_type": "llama",
        "hidden_size": 64,
    }
    layers = [*PLAN, "lm_head", "model.embed_tokens"]
    files = {"config.json": json.dumps({"quantization_config": config["quantization_config"]})}
    assert read("compressed-tensors", files, layers=layers).assignment == PLAN | {
        "lm_head": "fp16",
        "model.embed_tokens": "fp16",
    }
    ignored = config["quantization_config"]["ignore"]
    assert any("lm_head" in pattern for pattern in ignored)
    assert any("layers\\.1\\.self_attn\\.q_proj" in pattern for pattern in ignored)
    assert (made / "tokenizer.json").read_text() == "{}"


def test_shards_stay_shards_with_an_index_of_the_new_names(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "in", max_shard_size="60KB")
    made = apply(tmp_path / "in", PLAN, "compressed-tensors", path=tmp_path / "out")
    index = json.loads((made / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    total = 0
    for file in sorted(made.glob("*.safetensors")):
        tensors = load_file(file)
        total += sum(tensor.nbytes for tensor in tensors.values())
        assert {name for name, where in index["weight_map"].items() if where == file.name} == set(tensors)
    assert index["metadata"]["total_size"] == total


@pytest.mark.parametrize("third", [{}, {"model.layers.0.self_attn.v_proj": "int4-g32"}])
def test_a_partial_unit_is_refused_and_named(checkpoint: Path, tmp_path: Path, third: dict[str, str]) -> None:
    plan = {f"model.layers.0.self_attn.{name}_proj": "int8-g32" for name in "qk"} | third
    match = r"/assignment/model.layers.0.self_attn.qkv_proj: these layers become one at load and need one format, got "
    with pytest.raises(
        InvalidInputError, match=match + "k_proj int8-g32, q_proj int8-g32, v_proj (nothing|int4)"
    ):
        apply(checkpoint, plan, "compressed-tensors", path=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_groups_that_do_not_divide_the_row_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    plan = {"model.layers.1.self_attn.o_proj": "int4-g40"}
    with pytest.raises(
        InvalidInputError, match="groups that divide the row; that of int4-g40 does not divide 64"
    ):
        apply(checkpoint, plan, "compressed-tensors", path=tmp_path / "out")


def test_kernels_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"conv.weight": torch.ones(4, 3, 2, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidInputError, match=r"packs matrices; this weight has the shape \(4, 3, 2, 2\)"):
        apply(tmp_path, {"conv": "int4"}, "compressed-tensors", path=tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "expected a folder with config.json"),
        ("[", "cannot read .*config.json"),
        ("[]", "it is no JSON object"),
        ('{"quantization_config": {}}', "quantized already, by another tool; start from the original"),
    ],
)
def test_a_folder_that_is_no_original_is_refused(tmp_path: Path, text: str | None, match: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidInputError, match=f"/model: .*{match}"):
        apply(tmp_path, PLAN, "compressed-tensors", path=tmp_path / "out")


def test_transformers_fuses_nothing_and_so_may_have_shards_apart(checkpoint: Path, tmp_path: Path) -> None:
    plan = {
        f"model.layers.0.self_attn.{name}_proj": fmt for name, fmt in (("q", "int4-g32"), ("k", "int8-g32"))
    }
    made = apply(checkpoint, plan, "compressed-tensors", path=tmp_path / "out", runtime="transformers")
    loaded = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
    expected = dequantized(tiny_llama().half().float(), plan)
    assert np.abs(outputs(loaded) - expected).max() < 1e-3 * np.abs(expected).max()
    with pytest.raises(
        InvalidInputError, match=r"need one format, got .*; plan them as a unit, or name a runtime that"
    ):
        apply(checkpoint, plan, "compressed-tensors", path=tmp_path / "vllm", runtime="vllm")
