"""Convolutions in 8 bits, in files that ONNX Runtime runs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from quantize import Rounding, apply, parse_format, restored, round_trip
from quantize.backends.onnxruntime.export import export_onnx
from quantize.backends.onnxruntime.latency import measured_latencies
from quantize.backends.onnxruntime.spans import observed_spans
from tests.quantize.onnx_reading import initializers, payload

PLAN = {"first": "int8", "second": "int8", "head": "int4-g32"}


class Pictures(nn.Module):
    """Two convolutions, one of them in groups, and a Linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, stride=2, groups=2, bias=False)
        self.head = nn.Linear(8 * 9, 32)

    def forward(self, pictures: Tensor) -> Tensor:
        hidden = torch.relu(self.second(torch.relu(self.first(pictures))))
        result: Tensor = self.head(hidden.flatten(1))
        return result


PICTURES = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "pictures.onnx"
    inputs = {"pictures": torch.from_numpy(PICTURES[:2])}
    return export_onnx(Pictures().eval(), inputs, path, layers=list(PLAN), dynamic={"pictures": {0: "batch"}})


def run(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"pictures": PICTURES})[0]


def dequantized(plan: dict[str, str]) -> np.ndarray:
    model = Pictures().eval()
    with torch.no_grad():
        for layer, name in plan.items():
            weight = model.get_submodule(layer).weight
            weight.copy_(torch.from_numpy(round_trip(weight.numpy(), parse_format(name))))
        return model(torch.from_numpy(PICTURES)).numpy()


def kernels(path: Path) -> list[np.ndarray]:
    arrays = initializers(onnx.load(path))
    stems = [name.removesuffix(".codes") for name in arrays if name.endswith(".int8.codes")]
    return [arrays[f"{s}.codes"] * arrays[f"{s}.half"].astype(np.float32)[:, None, None, None] for s in stems]


@pytest.mark.parametrize("method", ["nearest", "scale_search", "gptq"])
def test_kernels_are_those_of_the_reference_bit_for_bit(source: Path, tmp_path: Path, method: str) -> None:
    rng, model, rounding = np.random.default_rng(1), Pictures(), Rounding(method)
    draws = {
        "first": rng.normal(size=(1, 99, 27)),
        "second": rng.normal(size=(2, 99, 36)),
        "head": rng.normal(size=(1, 99, 72)),
    }
    moments = {layer: values.transpose(0, 2, 1) @ values for layer, values in draws.items()}
    path = apply(source, PLAN, "onnxruntime", path=tmp_path / "out.onnx", rounding=rounding, moments=moments)
    for layer, kernel in zip(("first", "second"), kernels(path), strict=True):
        weight = model.get_submodule(layer).weight.detach().numpy()
        assert np.array_equal(kernel, restored(weight, parse_format("int8"), rounding, moments[layer]))


def test_bytes_are_those_of_the_formats(source: Path, tmp_path: Path) -> None:
    path = apply(source, PLAN, "onnxruntime", path=tmp_path / "out.onnx")
    model = Pictures()
    saved = sum(
        parse_format("fp32").stored_bytes(model.get_submodule(layer).weight.shape)
        - parse_format(name).stored_bytes(model.get_submodule(layer).weight.shape)
        for layer, name in PLAN.items()
    )
    assert payload(source) - payload(path) == saved


def test_with_weights_alone_it_runs_like_the_dequantized_model(source: Path, tmp_path: Path) -> None:
    plan = {"first": "int8", "second": "fp16"}
    path = apply(source, plan, "onnxruntime", path=tmp_path / "out.onnx")
    np.testing.assert_allclose(run(path), dequantized(plan), rtol=1e-4, atol=1e-5)


def test_with_spans_it_computes_in_eight_bits(source: Path, tmp_path: Path) -> None:
    plan = {"first": "int8", "second": "int8"}
    spans = observed_spans(source, [{"pictures": PICTURES[:2]}, {"pictures": PICTURES[2:]}])
    assert spans["first"].inputs == (float(PICTURES.min()), float(PICTURES.max()))
    assert spans["second"].inputs[0] == 0  # behind a ReLU
    path = apply(source, plan, "onnxruntime", path=tmp_path / "out.onnx", spans=spans)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = os.fspath(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2
    assert "Conv" not in kinds
    ours, theirs = run(path), dequantized(plan)
    # Three rounds of rounding by 1/255 of the span, and one for the bias.
    assert 0 < np.abs(ours - theirs).max() < 0.04 * np.abs(theirs).max()


def test_data_that_says_nothing_is_refused(source: Path) -> None:
    with pytest.raises(InvalidInputError, match="/batches: expected at least one batch of finite numbers"):
        observed_spans(source, [])


@pytest.mark.parametrize("name", ["int8-g16", "int4", "uint8"])
def test_other_formats_are_refused_for_convolutions(source: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(
        InvalidInputError,
        match=f"/assignment/first: ONNX Runtime runs convolutions with int8 .* not '{name}'",
    ):
        apply(source, {"first": name}, "onnxruntime", path=tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_files_are_timed_in_turns(source: Path, tmp_path: Path) -> None:
    small = apply(source, PLAN, "onnxruntime", path=tmp_path / "out.onnx")
    large = np.random.default_rng(0).normal(size=(256, 3, 8, 8)).astype(np.float32)
    (slow, _), (one, again) = (
        measured_latencies([source, small], {"pictures": pictures}, rounds=15)
        for pictures in (large, large[:1])
    )
    assert slow.median_us > 3 * one.median_us > 0
    assert again.quartiles_us[0] <= again.median_us <= again.quartiles_us[1]
