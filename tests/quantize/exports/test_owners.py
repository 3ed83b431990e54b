"""Our files, loaded by the packages that define them. Each in an environment of its own; versions are asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantize.exports import export, write
from quantize.exports.llama_cpp import OWN, TYPES, own_name
from quantize.formats import parse_format
from quantize.imports.imatrix import mean_squares
from sensitivity.pretrained.text_encoder import minilm_folder
from tests.quantize.exports.owners import Owner, ask
from tests.quantize.exports.plans import LLAMA, formats_of

pytestmark = pytest.mark.rare

#: Twelve Linears of 256 × 256 called 0 to 11: names that are prefixes of others.
CHAIN = """
import torch
from torch import nn
model = nn.Sequential(*[nn.Linear(256, 256, bias=False) for _ in range(12)]).eval()
"""


def _files(target: str, plan: dict[str, str], folder: Path, others: tuple[str, ...] = ()) -> Path:
    done = export(plan, target, others=others)
    assert done.losses == ()
    return write(done, folder)[0]


def _bits(plan: dict[str, str]) -> dict[str, list[object]]:
    """Bits, symmetry and group size of what is quantized, and whether codes are floats."""
    formats = {layer: parse_format(name) for layer, name in plan.items()}
    return {
        layer: [found.bits, found.symmetric, found.group_size, found.floating]
        for layer, found in formats.items()
        if not found.plain
    }


def test_compressed_tensors_applies_the_plan(tmp_path: Path) -> None:
    plan = {"0": "int4-g64", "1": "uint8", "10": "int3-g128", "11": "int2-g32", "5": "fp16", "6": "fp8-e4m3"}
    plan |= {"7": "mxfp8", "8": "mxfp4", "9": "int8-dynamic"}
    script = f"""{CHAIN}
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
config = json.load(open(sys.argv[1]))["quantization_config"]
config["quantization_status"] = "initialized"  # there are no packed weights to go with it here
apply_quantization_config(model, QuantizationConfig.model_validate(config))
found = {{name: module.quantization_scheme for name, module in model.named_modules()
         if getattr(module, "quantization_scheme", None)}}
weights = {{name: scheme.weights for name, scheme in found.items()}}
answer = [{{name: [args.num_bits, args.symmetric, args.group_size, args.type == "float"]
           for name, args in weights.items()}},
          [name for name, scheme in found.items() if scheme.input_activations]]
"""
    owner = Owner("compressed-tensors", "0.20.0")
    assert ask(owner, script, _files("compressed-tensors", plan, tmp_path)) == [_bits(plan), ["9"]]


def test_quanto_quantizes_as_the_map_says(tmp_path: Path) -> None:
    plan = {"0": "uint4-g128", "1": "int8", "10": "uint2-g128", "11": "fp16", "2": "fp8-e4m3"}
    script = f"""{CHAIN}
from optimum.quanto import requantize
requantize(model, model.state_dict(), json.load(open(sys.argv[1])))
answer = {{name: [module.weight_qtype.bits, module.weight_group_size, module.weight_qtype.is_floating_point]
          for name, module in model.named_modules() if getattr(module, "weight_qtype", None)}}
"""
    found = ask(Owner("optimum-quanto", "0.2.7"), script, _files("quanto", plan, tmp_path))
    assert found == {
        "0": [4, 128, False],
        "1": [8, None, False],
        "10": [2, 128, False],
        "2": [8, None, True],
    }


def test_gguf_knows_the_tensors_and_types(tmp_path: Path) -> None:
    bert = [f"encoder.layer.1.{part}" for part in ("attention.self.query", "attention.self.key", "attention.self.value",
            "attention.output.dense", "intermediate.dense", "output.dense")]  # fmt: skip
    path = _files("llama.cpp", dict.fromkeys(LLAMA, "int4-g32"), tmp_path)
    script = """
import gguf
arch = {"llama": gguf.MODEL_ARCH.LLAMA, "bert": gguf.MODEL_ARCH.BERT}
names = {kind: gguf.get_tensor_name_map(found, 16) for kind, found in arch.items()}
sizes = {kind.name.lower(): gguf.GGML_QUANT_SIZES[kind] for kind in gguf.GGMLQuantizationType}
answer = [{layer: names[kind].get_name(f"{layer}.weight", try_suffixes=(".weight",))
           for kind, layers in json.loads(sys.argv[1]).items() for layer in layers}, sizes]
"""
    names, sizes = ask(Owner("gguf", "0.19.0"), script, json.dumps({"llama": LLAMA, "bert": bert}))
    assert names == {layer: own_name(layer) for layer in (*LLAMA, *bert)}
    assert len(path.read_text().splitlines()) == len(LLAMA)
    assert set(TYPES) | set(OWN) <= set(sizes)
    for kind, twin in TYPES.items():
        weights, stored = sizes[kind]
        minimum = (
            0
            if parse_format(twin).symmetric
            else (16 - parse_format(twin).bits) / parse_format(twin).group_size
        )
        assert stored * 8 / weights == parse_format(twin).stored_bytes((1, 256)) * 8 / 256 + minimum


def test_litert_resolves_every_entry(tmp_path: Path) -> None:
    plan = {f"layers_{index}/up": name for index, name in enumerate(formats_of("litert"))}
    script = """
from ai_edge_quantizer import qtyping, recipe_manager
manager = recipe_manager.RecipeManager()
manager.load_quantization_recipe(json.load(open(sys.argv[1])))
answer = {}
for layer in json.loads(sys.argv[2]):
    key, config = manager.get_quantization_configs(qtyping.TFLOperationName.FULLY_CONNECTED, f"model/{layer}/dot;")
    weight = config.weight_tensor_config
    if weight is not None:
        size = weight.granularity.removeprefix("BLOCKWISE_")
        answer[layer] = [weight.num_bits, weight.symmetric, int(size) if size.isdigit() else None, False]
"""
    path = _files("litert", plan, tmp_path, others=("layers_20/up",))
    found = ask(
        Owner("ai-edge-quantizer", "0.10.0"),
        script,
        path,
        json.dumps([*plan, "layers_20/up", "layers_1/down"]),
    )
    assert found == _bits(plan)


def test_modelopt_quantizes_as_the_recipe_says(tmp_path: Path) -> None:
    plan = {"0": "int4-g64", "1": "int8", "10": "int3-g128", "11": "int2", "2": "fp16"}
    plan |= {"3": "fp8-e4m3", "4": "mxfp8", "5": "mxfp4"}
    script = f"""{CHAIN}
import modelopt.torch.quantization as mtq
from modelopt.recipe import load_recipe
recipe = load_recipe(sys.argv[1])
mtq.quantize(model, recipe.quantize.model_dump(), lambda model: model(torch.ones(2, 256)))
on = {{name: module for name, module in model.named_modules() if name.endswith("_quantizer") and module.is_enabled}}
total = lambda bits: bits if isinstance(bits, int) else 1 + sum(bits)
answer = {{name.removesuffix(".weight_quantizer"):
          [total(module.num_bits), True, (module.block_sizes or {{}}).get(-1), not isinstance(module.num_bits, int)]
          for name, module in on.items()}}
"""
    assert ask(Owner("nvidia-modelopt", "0.47.0"), script, _files("modelopt", plan, tmp_path)) == _bits(plan)


def test_auto_round_resolves_every_layer(tmp_path: Path) -> None:
    plan = {
        "layers.0": "int4-g64",
        "layers.1": "int8",
        "layers.10": "uint3-g128",
        "layers.11": "int2",
        "layers.2": "fp16",
        "layers.4": "fp8-e4m3",
        "layers.5": "mxfp8",
        "layers.6": "mxfp4",
    }
    script = f"""{CHAIN}
from auto_round.compressors.utils import set_layer_config
whole = nn.Module()
whole.layers = nn.ModuleList(model)
layers = json.load(open(sys.argv[1]))
found, _, expressions = set_layer_config(whole, layers, "W4A16", torch.float16, (nn.Linear,), (),
                                         quant_block_list=[["layers.3"]])
assert not expressions
answer = {{name: [settings["bits"], settings["sym"], None if settings["group_size"] < 0 else settings["group_size"],
                 not settings["data_type"].startswith("int")]
          for name, settings in found.items() if name in layers and settings["bits"] < 16}}
"""
    assert ask(Owner("auto-round", "0.16.1"), script, _files("auto-round", plan, tmp_path)) == _bits(plan)


def test_nncf_compresses_as_the_passes_say(tmp_path: Path) -> None:
    layers = {str(index): f"__module.{index}/aten::linear/MatMul" for index in range(12)}
    plan = {
        "0": "int4-g64",
        "1": "int8",
        "10": "uint4-g128",
        "11": "int2-g32",
        "2": "uint8",
        "3": "int3-g64",
        "4": "fp16",
        "5": "fp8-e4m3",
        "6": "mxfp8",
        "7": "mxfp4",
    }
    done = export(plan, "nncf", names=layers, others=layers)
    assert done.losses == ()
    script = f"""{CHAIN}
import nncf, openvino
graph = openvino.convert_model(model, example_input=torch.ones(2, 256))
for settings in json.load(open(sys.argv[1]))["passes"]:
    settings.pop("nodes")
    scope = nncf.IgnoredScope(**settings.pop("ignored_scope"))
    mode = nncf.CompressWeightsMode(settings.pop("mode"))
    graph = nncf.compress_weights(graph, mode=mode, ignored_scope=scope, **settings)
answer = {{}}
for node in graph.get_ops():
    name = node.get_friendly_name()
    if node.get_type_name() == "Constant" and "weight" in name and "zero_point" not in name:
        shape, kind = list(node.get_output_shape(0)), node.get_element_type()
        if kind.get_type_name() not in ("f32", "f16", "f8e8m0") and len(shape) > 1 and shape[-1] > 1:
            answer[name.split(".")[1]] = [kind.get_type_name(), shape[-1] if len(shape) == 3 else None]
"""
    found = ask(Owner("nncf", "3.4.0", ("openvino==2026.4.1",)), script, write(done, tmp_path)[0])
    assert set(found) == set(plan) - {"4"}
    assert {layer: size for layer, (_, size) in found.items()} == {
        layer: parse_format(plan[layer]).group_size for layer in found
    }
    floats = {"fp8-e4m3": "f8e4m3", "mxfp8": "f8e4m3", "mxfp4": "f4e2m1"}
    assert {layer: kind.strip("iu") for layer, (kind, _) in found.items()} == {
        layer: floats.get(plan[layer], str(parse_format(plan[layer]).bits)) for layer in found
    }


def test_olive_reads_the_checkpoint_configuration(tmp_path: Path) -> None:
    plan = {"a.0": "int4-g64", "a.1": "uint8", "a.10": "int2-g32", "b": "fp16", "c": "int4-g64"}
    script = """
from olive.common.quant.hf_utils import OliveHfQuantizationConfig
config = OliveHfQuantizationConfig(**json.load(open(sys.argv[1]))["quantization_config"])
answer = {}
for name in json.loads(sys.argv[2]):
    if name not in config.modules_to_not_convert:
        settings = config.get_qlinear_init_args(name)
        size = settings["group_size"]
        answer[name] = [settings["bits"], settings["symmetric"], None if size < 0 else size, False]
"""
    path = _files("olive", plan, tmp_path)
    assert ask(Owner("olive-ai", "0.13.0"), script, path, json.dumps(list(plan))) == _bits(plan)


def test_quark_quantizes_as_the_configuration_says(tmp_path: Path) -> None:
    plan = {"0": "int4-g64", "1": "uint8", "10": "int3-g128", "11": "uint2-g32", "2": "fp16", "3": "fp8-e4m3"}
    script = f"""{CHAIN}
from quark.torch import ModelQuantizer
from quark.torch.quantization.config.config import QConfig
config = QConfig.from_dict(json.load(open(sys.argv[1]))["quantization_config"])
model = ModelQuantizer(config).quantize_model(model, [torch.ones(2, 256)])
on = {{name.removesuffix("._weight_quantizer"): module for name, module in model.named_modules()
      if name.endswith("._weight_quantizer")}}
bits = lambda kind: 8 if kind.startswith("fp8") else int(kind[-1])
answer = {{name: [bits(module.dtype.value), module.symmetric is not False, module.group_size,
                 module.dtype.value.startswith("fp")] for name, module in on.items()}}
"""
    assert ask(Owner("amd-quark", "0.13"), script, _files("quark", plan, tmp_path)) == _bits(plan)


def test_llm_compressor_runs_the_recipe(tmp_path: Path) -> None:
    layers = [
        "layers.0.mlp.up_proj",
        "layers.1.mlp.up_proj",
        "layers.1.self_attn.q_proj",
        "layers.0.mlp.down_proj",
        "layers.1.self_attn.o_proj",
        "layers.1.mlp.down_proj",
    ]
    formats = ["int4-g64", "uint8", "int3-g32", "fp16", "fp8-e4m3", "int8-dynamic"]
    plan = {f"model.{layer}": name for layer, name in zip(layers, formats, strict=True)}
    script = """
from llmcompressor import oneshot
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
sizes = {"hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2}
folder, words = sys.argv[2:]
LlamaForCausalLM(LlamaConfig(vocab_size=30522, num_hidden_layers=2, **sizes)).save_pretrained(folder)
AutoTokenizer.from_pretrained(words).save_pretrained(folder)
model = LlamaForCausalLM.from_pretrained(folder)
oneshot(model=model, recipe=sys.argv[1])
found = {name: module.quantization_scheme.weights for name, module in model.named_modules()
         if getattr(module, "quantization_scheme", None)}
answer = {name: [args.num_bits, args.symmetric, args.group_size, args.type == "float"]
          for name, args in found.items()}
"""
    path = _files("llm-compressor", plan, tmp_path / "plan")
    # It requires other releases of transformers and compressed-tensors than this environment has.
    owner = Owner("llmcompressor", "0.14.0.1")
    assert ask(owner, script, path, tmp_path / "model", minilm_folder()) == _bits(plan)


def test_mlx_loads_a_checkpoint_with_our_configuration(tmp_path: Path) -> None:
    blocks = ["self_attn.q_proj", "mlp.up_proj", "mlp.down_proj"]
    layers = [f"model.layers.{index}.{part}" for index in range(2) for part in blocks]
    plan = dict(
        zip(
            layers,
            ["uint4-g64", "uint2-g32", "mxfp8", "uint4-g64", "mxfp4", "uint6-g64"],
            strict=True,
        )
    )
    rest = [f"self_attn.{name}_proj" for name in "kvo"] + ["mlp.gate_proj"]
    others = (
        "lm_head",
        "model.embed_tokens",
        *(f"model.layers.{index}.{part}" for index in (0, 1) for part in rest),
    )
    script = """
import mlx.core as mx, mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.llama import Model, ModelArgs
from mlx_lm.utils import load_model
from pathlib import Path
folder = Path(sys.argv[1]).parent
sizes = {"model_type": "llama", "hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 128,
         "num_attention_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 128, "tie_word_embeddings": False}
config = json.load(open(sys.argv[1]))
entries = config["quantization"]
default = {key: entries[key] for key in ("group_size", "bits", "mode")}
model = Model(ModelArgs.from_dict(sizes))
wanted = lambda path, module: hasattr(module, "to_quantized") and entries.get(path, True)
nn.quantize(model, **default, class_predicate=wanted)
mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
(folder / "config.json").write_text(json.dumps({**sizes, **config}))
loaded, _ = load_model(folder)
answer = {name: [module.bits, module.mode != "affine", module.group_size, module.mode != "affine"]
          for name, module in loaded.named_modules() if hasattr(module, "bits")}
"""
    owner = Owner("mlx-lm", "0.32.2", ("mlx==0.32.4", "mlx-cpu==0.32.4"))
    assert ask(owner, script, _files("mlx", plan, tmp_path, others)) == _bits(plan)


def test_gptqmodel_resolves_every_layer(tmp_path: Path) -> None:
    attention = dict.fromkeys((f"l.0.self_attn.{name}_proj" for name in "qkv"), "int8-g32")
    plan = {
        "l.1.up": "int4-g64",
        "l.10.up": "int4-g64",
        "l.11.up": "int4-g64",
        "l.1.down": "uint3-g128",
        "l.10.down": "int2",
    }
    plan |= {"l.11.down": "fp16", "lm_head": "int4-g64", **attention}
    script = """
from gptqmodel.quantization.config import QuantizeConfig
config = QuantizeConfig.from_quant_config(json.load(open(sys.argv[1])))
answer = {}
for layer in json.loads(sys.argv[2]):
    if config.dynamic_get(layer) is not False:
        bits, symmetric, size = (config.dynamic_get(layer, key, getattr(config, key))
                                 for key in ("bits", "sym", "group_size"))
        answer[layer] = [int(bits), symmetric, None if size < 0 else size, False]
"""
    tools = ("setuptools>=84.2.1,<85", "wheel", "packaging", "ninja")
    needs = (
        "pypcre",
        "device-smi",
        "logbar",
        "tokenicer",
        "defuser",
        "accelerate",
        "datasets",
        "threadpoolctl",
    )
    owner = Owner("gptqmodel", "7.7.0", (*tools, *needs), built=True)
    layers = [*plan, "l.0.self_attn.qkv_proj"]
    found = ask(owner, script, _files("gptqmodel", plan, tmp_path), json.dumps(layers))
    assert found == _bits(plan) | {"l.0.self_attn.qkv_proj": [8, True, 32, False]}


def test_gguf_writes_matrices_that_we_read(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    script = """
import gguf, numpy
writer = gguf.GGUFWriter(sys.argv[1], "imatrix")
writer.add_type("imatrix")
writer.add_array("imatrix.datasets", ["one", "two"])
writer.add_uint32("imatrix.chunk_count", 3)
random = numpy.random.default_rng(0)
sums = {"blk.0.ffn_up.weight": (1, 96), "blk.0.ffn_down_exps.weight": (4, 33)}
answer = {}
for name, shape in sums.items():
    values = random.random(shape, numpy.float32)
    writer.add_tensor(f"{name}.in_sum2", values)
    writer.add_tensor(f"{name}.counts", numpy.full((shape[0], 1), 7, numpy.float32))
    answer[name] = (values.astype(float) / 7).mean(0).tolist()
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
"""
    expected = ask(Owner("gguf", "0.19.0"), script, path)
    found = mean_squares(path.read_bytes(), path.name)
    assert {name: values.tolist() for name, values in found.items()} == expected
