"""ONNX Runtime itself runs our passes, and every node ends with the bits of the plan."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from quantize.exports import export
from quantize.exports.onnxruntime import own_name
from tests.quantize.exports.foreign import reading

LAYERS = ["layers.0.up", "layers.0.down", "layers.1.up", "layers.1.down", "head"]


def _chain() -> onnx.ModelProto:
    """Five MatMuls of 128 × 128, named as torch names them."""
    weight = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("MatMul", [f"x{index}", f"w{index}"], [f"x{index + 1}"], name=own_name(layer))
        for index, layer in enumerate(LAYERS)
    ]
    value = [onnx.helper.make_tensor_value_info(name, 1, ["n", 128]) for name in ("x0", f"x{len(LAYERS)}")]
    weights = [onnx.numpy_helper.from_array(weight, f"w{index}") for index in range(len(LAYERS))]
    graph = onnx.helper.make_graph(nodes, "chain", value[:1], value[1:], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])


def _quantized(model: onnx.ModelProto, config: dict[str, Any]) -> dict[str, dict[str, int]]:
    for settings in config["passes"]:
        settings.pop("nodes")
        quantizer = MatMulNBitsQuantizer(model, **settings)
        quantizer.process()
        model = quantizer.model.model
    return {
        node.name.removesuffix(f"_Q{_attributes(node).get('bits')}"): _attributes(node)
        for node in model.graph.node
    }


def _attributes(node: onnx.NodeProto) -> dict[str, int]:
    found = {item.name: item.i for item in node.attribute if item.name in {"bits", "block_size"}}
    return found | ({"zeros": int(len(node.input) > 3 and bool(node.input[3]))} if found else {})


def test_onnxruntime_gives_every_node_its_bits() -> None:
    plan = dict(zip(LAYERS[:4], ["int4-g64", "int2-g32", "uint8-g128", "fp32"], strict=True))
    (text,) = export(plan, "onnxruntime", others=["head"]).files.values()
    assert _quantized(_chain(), json.loads(text)) == {
        "/layers.0/up/MatMul": {"bits": 4, "block_size": 64, "zeros": 0},
        "/layers.0/down/MatMul": {"bits": 2, "block_size": 32, "zeros": 0},
        "/layers.1/up/MatMul": {"bits": 8, "block_size": 128, "zeros": 1},
        "/layers.1/down/MatMul": {},
        "/head/MatMul": {},
    }


def test_nodes_are_named_as_torch_names_them() -> None:
    assert own_name("model.layers.10.mlp.up_proj") == "/model/layers.10/mlp/up_proj/MatMul"
    assert own_name("0") == "/0/MatMul"


def test_a_customized_weight_config_is_read() -> None:
    document = {
        "customized_weight_config": {
            "/lm_head/MatMul": {"bits": 8, "group_size": 32, "scheme": "sym"},
            "/model/layers.0/mlp/up_proj/MatMul": {"bits": 4, "group_size": 32},
        },
        "nodes_to_exclude": ["/model/layers.1/mlp/up_proj/MatMul"],
    }
    found = reading("onnxruntime", document)
    assert found.assignment["lm_head"] == "int8-g32"
    assert found.assignment["model.layers.0.mlp.up_proj"] == "uint4-g32"
    assert found.unused == ()
    assert found.notes == (
        "only the RTN and k-quant algorithms honour customized_weight_config, and not for 2 bits",
    )
