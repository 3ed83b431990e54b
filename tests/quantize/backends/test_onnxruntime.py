"""Packed weights in an ONNX file, read back by an independent reader and run by ONNX Runtime."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from allocator import InvalidInputError, MissingPackageError
from quantize import Quantized, apply, parse_format, quantize
from tests.quantize.models import TOKENS, Alike, Tied, Tokens, dequantized, exported
from tests.quantize.onnx_reading import initializers, payload, quantized_nodes, skeleton

MIXED = {"embed": "int4-g16", "up": "int8-g16", "down": "int2-g32"}


def run(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"tokens": TOKENS})
    return result


def reference(layer: str, name: str) -> Quantized:
    return quantize(Tokens().get_submodule(layer).weight.detach().numpy(), parse_format(name))


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Within what 8-bit activations cost.

    Accuracy level 4 rounds the inputs of a MatMul to 8 bits per block, half a step of 1/127 of the largest at most;
    the sum over a row averages that out, and 2 % of the largest output is several times what is left after two layers.
    """
    return bool(np.abs(ours - theirs).max() <= 0.02 * np.abs(theirs).max())


def test_the_numbers_in_the_file_are_those_of_the_reference_in_every_width(
    tokens_file: Path, tmp_path: Path
) -> None:
    path = apply(tokens_file, MIXED, "onnxruntime", path=tmp_path / "mixed.onnx")
    nodes = quantized_nodes(path)
    assert [node.op_type for node, _ in nodes] == ["GatherBlockQuantized", "MatMulNBits", "MatMulNBits"]
    for (_, stored), (layer, name) in zip(nodes, MIXED.items(), strict=True):
        expected = reference(layer, name)
        assert np.array_equal(stored.codes, expected.codes), layer
        assert stored.scales.dtype == np.float16, layer
        assert np.array_equal(stored.scales, expected.scales), layer


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("layer", ["embed", "up", "down"])
def test_any_node_takes_any_width(tokens_file: Path, tmp_path: Path, layer: str, bits: int) -> None:
    plan = {layer: f"int{bits}-g32"}
    path = apply(tokens_file, plan, "onnxruntime", path=tmp_path / "one.onnx")
    ((_, stored),) = quantized_nodes(path)
    assert np.array_equal(stored.codes, reference(layer, plan[layer]).codes)
    assert close(run(path), dequantized(Tokens(), plan))


def test_the_file_runs_like_the_dequantized_model(tokens_file: Path, tmp_path: Path) -> None:
    path = apply(tokens_file, MIXED, "onnxruntime", path=tmp_path / "mixed.onnx")
    ours, theirs = run(path), dequantized(Tokens(), MIXED)
    assert close(ours, theirs)
    # A test that the tolerance is not so loose that the original model would pass too.
    assert not close(run(tokens_file), theirs)


def test_the_file_shrinks_by_exactly_what_the_formats_say(tokens_file: Path, tmp_path: Path) -> None:
    path = apply(tokens_file, MIXED, "onnxruntime", path=tmp_path / "mixed.onnx")
    model, single = Tokens(), parse_format("fp32")
    saved = sum(
        single.stored_bytes(model.get_submodule(layer).weight.shape)
        - parse_format(name).stored_bytes(model.get_submodule(layer).weight.shape)
        for layer, name in MIXED.items()
    )
    assert payload(tokens_file) - payload(path) == saved
    # Around the numbers, the graph grows by the names of one Cast and two tensors per layer, and nothing else.
    overhead = skeleton(path) - skeleton(tokens_file)
    assert overhead < 400 * len(MIXED)
    # Lengths of the tensors are written in as many bytes as they need, at most two more or less for each.
    shrunk = tokens_file.stat().st_size - path.stat().st_size
    assert shrunk == pytest.approx(saved - overhead, abs=2 * (2 * len(MIXED) + 2))


def test_half_precision_is_stored_in_half_and_computed_in_single(tokens_file: Path, tmp_path: Path) -> None:
    plan = dict.fromkeys(MIXED, "fp16")
    path = apply(tokens_file, plan, "onnxruntime", path=tmp_path / "half.onnx")
    model = Tokens()
    weights = sum(model.get_submodule(layer).weight.numel() for layer in plan)
    assert payload(tokens_file) - payload(path) == 2 * weights
    # No rounding of activations here, so only the order of sums differs.
    np.testing.assert_allclose(run(path), dequantized(model, plan), rtol=1e-5, atol=1e-6)


def test_single_precision_leaves_the_graph_alone(tokens_file: Path, tmp_path: Path) -> None:
    path = apply(tokens_file, dict.fromkeys(MIXED, "fp32"), "onnxruntime", path=tmp_path / "same.onnx")
    assert onnx.load(path).graph == onnx.load(tokens_file).graph


def test_the_result_is_a_valid_model_in_which_nothing_is_left_over(tokens_file: Path, tmp_path: Path) -> None:
    path = apply(tokens_file, {**MIXED, "up": "fp16"}, "onnxruntime", path=tmp_path / "mixed.onnx")
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=False)
    used = {name for node in graph.graph.node for name in node.input}
    assert {item.name for item in graph.graph.initializer} <= used


def test_a_linear_whose_rows_end_in_a_padded_group_runs(tmp_path: Path) -> None:
    # rows of 40 weights in groups of 16: the third group holds 8 weights and 8 of padding
    model = Tokens(width=40)
    source = exported(model, tmp_path / "odd.onnx", ["up"])
    plan = {"up": "int8-g16"}
    path = apply(source, plan, "onnxruntime", path=tmp_path / "odd.q.onnx")
    assert close(run(path), dequantized(model, plan))


def test_an_embedding_whose_rows_end_in_a_padded_group_runs(tmp_path: Path) -> None:
    model = Tokens(width=40)
    source = exported(model, tmp_path / "odd.onnx", ["embed"])
    plan = {"embed": "int8-g16"}
    path = apply(source, plan, "onnxruntime", path=tmp_path / "odd.q.onnx")
    assert close(run(path), dequantized(model, plan))


@pytest.mark.parametrize("hidden", [32, 64], ids=["square", "oblong"])
@pytest.mark.thorough
def test_a_linear_that_sees_matrices_runs(tmp_path: Path, hidden: int) -> None:
    # The exporter writes Gemm with transB=1 for a Linear whose input has two dimensions.
    model = Tokens(width=32, hidden=hidden, pooled=True)
    source = exported(model, tmp_path / "pooled.onnx", ["up"])
    plan = {"up": "int8-g16"}
    path = apply(source, plan, "onnxruntime", path=tmp_path / "pooled.q.onnx")
    assert close(run(path), dequantized(model, plan))


def test_a_weight_that_is_tied_is_quantized_wherever_it_is_used(tmp_path: Path) -> None:
    model = Tied()
    source = exported(model, tmp_path / "tied.onnx", ["embed"])
    path = apply(source, {"embed": "int8-g16"}, "onnxruntime", path=tmp_path / "tied.q.onnx")
    assert len(quantized_nodes(path)) == 2


@pytest.fixture(scope="module")
def alike_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(Alike(), tmp_path_factory.mktemp("alike") / "alike.onnx", ["first", "second"])


def test_of_two_layers_with_equal_weights_the_right_one_is_quantized(
    alike_file: Path, tmp_path: Path
) -> None:
    path = apply(alike_file, {"second": "int4-g32"}, "onnxruntime", path=tmp_path / "second.onnx")
    ((node, _),) = quantized_nodes(path)
    order = [item.name for item in onnx.load(path).graph.node]
    tanh = next(item.name for item in onnx.load(path).graph.node if item.op_type == "Tanh")
    assert order.index(node.name) > order.index(tanh)


def test_two_layers_with_equal_weights_can_have_formats_of_their_own(
    alike_file: Path, tmp_path: Path
) -> None:
    plan = {"first": "int4-g32", "second": "int8-g32"}
    path = apply(alike_file, plan, "onnxruntime", path=tmp_path / "both.onnx")
    assert close(run(path), dequantized(Alike(), plan))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("int3-g32", "ONNX Runtime runs symmetric 2, 4 and 8 bits on the CPU; 'int3-g32' is not one of them"),
        ("int1-g32", "ONNX Runtime runs symmetric 2, 4 and 8 bits on the CPU"),
        ("uint4-g32", "ONNX Runtime runs symmetric 2, 4 and 8 bits on the CPU"),
        ("int4", "has groups of 16, 32, 64, 128, 256; 'int4' has none"),
        ("int4-g8", "has groups of 16, 32, 64, 128, 256; 'int4-g8' has 8"),
        ("int4-g48", "has groups of 16, 32, 64, 128, 256; 'int4-g48' has 48"),
        ("int4-g512", "has groups of 16, 32, 64, 128, 256; 'int4-g512' has 512"),
        ("bf16", "the onnxruntime backend has no bf16"),
    ],
)
def test_what_onnx_runtime_cannot_run_is_refused(
    tokens_file: Path, tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"/assignment/up: .*{reason}"):
        apply(tokens_file, {"embed": "int4-g16", "up": name}, "onnxruntime", path=tmp_path / "no.onnx")
    assert os.listdir(tmp_path) == []


def test_a_file_that_does_not_name_its_layers_is_refused(tokens_file: Path, tmp_path: Path) -> None:
    graph = onnx.load(tokens_file)
    del graph.metadata_props[:]
    nameless = tmp_path / "nameless.onnx"
    onnx.save(graph, nameless)
    with pytest.raises(InvalidInputError, match="/model: the file does not say which nodes belong to"):
        apply(nameless, MIXED, "onnxruntime", path=tmp_path / "no.onnx")
    assert os.listdir(tmp_path) == ["nameless.onnx"]


def test_metadata_of_others_is_kept(tokens_file: Path, tmp_path: Path) -> None:
    graph = onnx.load(tokens_file)
    entry = graph.metadata_props.add()
    entry.key, entry.value = "author", "someone"
    graph.metadata_props.reverse()
    source = tmp_path / "signed.onnx"
    onnx.save(graph, source)
    path = apply(source, MIXED, "onnxruntime", path=tmp_path / "quantized.onnx")
    assert onnx.load(path).metadata_props == graph.metadata_props


def test_nothing_of_this_machine_is_written(tokens_file: Path, tmp_path: Path) -> None:
    path = apply(tokens_file, MIXED, "onnxruntime", path=tmp_path / "mixed.onnx")
    content = path.read_bytes()
    for trace in (
        os.fspath(tmp_path),
        os.fspath(tokens_file.parent),
        os.getcwd(),
        "site-packages",
        "Traceback",
    ):
        assert trace.encode() not in content


def test_weights_beyond_half_precision_are_refused(tokens_file: Path, tmp_path: Path) -> None:
    graph = onnx.load(tokens_file)
    (tensor,) = (item for item in graph.graph.initializer if item.name == "embed.weight")
    weight = onnx.numpy_helper.to_array(tensor).copy()
    weight[0, 0] = 1e6
    tensor.CopyFrom(onnx.numpy_helper.from_array(weight, tensor.name))
    onnx.save(graph, tmp_path / "wide.onnx")
    with pytest.raises(InvalidInputError, match="beyond the 65504 of fp16"):
        apply(tmp_path / "wide.onnx", {"embed": "fp16"}, "onnxruntime", path=tmp_path / "no.onnx")


def test_a_layer_left_alone_keeps_its_numbers(tokens_file: Path, tmp_path: Path) -> None:
    path = apply(tokens_file, {"up": "int4-g16"}, "onnxruntime", path=tmp_path / "one.onnx")
    before, after = (initializers(onnx.load(file)) for file in (tokens_file, path))
    for name in ("embed.weight", "up.bias"):
        assert np.array_equal(after[name], before[name])


def test_without_onnx_the_message_says_what_to_install(
    tokens_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match=r"onnx is needed here .* pip install 'bitalloc\[onnx\]'"):
        apply(tokens_file, MIXED, "onnxruntime", path=tmp_path / "no.onnx")
    assert os.listdir(tmp_path) == []
