"""What every backend promises, run against each of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from allocator import InvalidInputError
from quantize import BACKENDS, Rounding, apply, parse_format, restored, round_trip
from quantize.onnx_export import LAYERS_KEY
from tests.quantize.models import TOKENS, Tokens, dequantized
from tests.quantize.onnx_reading import plain_weight, quantized_nodes

LAYERS = ("embed", "up", "down")


class Backend(ABC):
    """How the suite drives a backend on :class:`Tokens`."""

    unsupported: str
    #: Largest error of an output next to the dequantized model, relative to the largest output.
    tolerance: float

    @abstractmethod
    def apply(self, plan: dict[str, str], **options: Any) -> None: ...

    @abstractmethod
    def run(self) -> np.ndarray: ...

    @abstractmethod
    def weight(self, layer: str) -> np.ndarray: ...

    @abstractmethod
    def original(self) -> bytes: ...

    @abstractmethod
    def nothing_was_made(self) -> bool: ...


class TorchAo(Backend):
    unsupported = "uint4-g16"
    tolerance = 1e-5

    def __init__(self) -> None:
        self.model = Tokens().eval()
        self.changed: Tokens | None = None

    def apply(self, plan: dict[str, str], **options: Any) -> None:
        self.changed = apply(self.model, plan, "torchao", **options)

    def run(self) -> np.ndarray:
        assert self.changed is not None
        with torch.no_grad():
            return self.changed(torch.from_numpy(TOKENS)).numpy()

    def weight(self, layer: str) -> np.ndarray:
        assert self.changed is not None
        weight = self.changed.get_submodule(layer).weight.detach()
        return (weight if type(weight) is torch.Tensor else weight.dequantize()).numpy()

    def original(self) -> bytes:
        parts = [(name, value.numpy().tobytes()) for name, value in self.model.state_dict().items()]
        kinds = [
            (name, type(module), type(getattr(module, "weight", None)))
            for name, module in self.model.named_modules()
        ]
        return repr(
            (parts, kinds, [parameter.requires_grad for parameter in self.model.parameters()])
        ).encode()

    def nothing_was_made(self) -> bool:
        return self.changed is None


class OnnxRuntime(Backend):
    unsupported = "int3-g16"
    # ONNX Runtime computes with 8-bit activations; see test_onnxruntime.close.
    tolerance = 0.02

    def __init__(self, source: Path, folder: Path) -> None:
        self.source = source
        self.folder = folder

    def apply(self, plan: dict[str, str], **options: Any) -> None:
        apply(self.source, plan, "onnxruntime", path=self.folder / "quantized.onnx", **options)

    def run(self) -> np.ndarray:
        session = onnxruntime.InferenceSession(
            os.fspath(self.folder / "quantized.onnx"), providers=["CPUExecutionProvider"]
        )
        return session.run(None, {"tokens": TOKENS})[0]

    def weight(self, layer: str) -> np.ndarray:
        path = self.folder / "quantized.onnx"
        (entry,) = (item for item in onnx.load(path).metadata_props if item.key == LAYERS_KEY)
        (name,) = json.loads(entry.value)[layer]
        for node, stored in quantized_nodes(path):
            if node.name == name:
                return stored.dequantize()
        return plain_weight(path, name)

    def original(self) -> bytes:
        return self.source.read_bytes()

    def nothing_was_made(self) -> bool:
        return os.listdir(self.folder) == []


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tokens_file: Path, tmp_path: Path) -> Backend:
    return TorchAo() if request.param == "torchao" else OnnxRuntime(tokens_file, tmp_path)


PLANS = [
    {"embed": "int8-g32", "up": "int8-g32", "down": "int8-g32"},
    {"embed": "int4-g16", "up": "int4-g32", "down": "int4-g64"},
    {"embed": "int2-g16", "up": "int8-g16", "down": "int4-g16"},
    {"embed": "fp16", "up": "int4-g16", "down": "fp32"},
    {"up": "int2-g32"},
]
by_plan = pytest.mark.parametrize("plan", PLANS, ids=lambda plan: " ".join(plan.values()))


@by_plan
def test_weights_are_those_of_the_reference_bit_for_bit(backend: Backend, plan: dict[str, str]) -> None:
    backend.apply(plan)
    model = Tokens()
    for layer, name in plan.items():
        expected = round_trip(model.get_submodule(layer).weight.detach().numpy(), parse_format(name))
        assert np.array_equal(backend.weight(layer), expected), layer


def moments(plan: dict[str, str]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for layer in plan:
        weight = Tokens().get_submodule(layer).weight
        inputs = np.random.default_rng(len(layer)).normal(size=(100, weight.shape[1])).cumsum(axis=1)
        found[layer] = np.ones(len(weight)) if layer == "embed" else inputs.T @ inputs
    return found


@by_plan
@pytest.mark.parametrize("method", ["scale_search", "gptq"])
def test_other_roundings_are_those_of_the_reference_bit_for_bit(
    backend: Backend, plan: dict[str, str], method: str
) -> None:
    rounding, seconds = Rounding(method), moments(plan)
    backend.apply(plan, rounding=rounding, moments=seconds)
    model = Tokens()
    changed = False
    for layer, name in plan.items():
        weight = model.get_submodule(layer).weight.detach().numpy()
        expected = restored(weight, parse_format(name), rounding, seconds[layer])
        assert np.array_equal(backend.weight(layer), expected), layer
        changed = changed or not np.array_equal(expected, round_trip(weight, parse_format(name)))
    assert changed


def test_a_rounding_without_its_moments_is_refused_and_nothing_is_made(backend: Backend) -> None:
    before = backend.original()
    with pytest.raises(InvalidInputError, match="/moments/down: gptq needs the second moment"):
        backend.apply(
            {"up": "int4-g16", "down": "int4-g16"}, rounding=Rounding("gptq"), moments={"up": np.eye(32)}
        )
    assert backend.nothing_was_made()
    assert backend.original() == before


@by_plan
def test_outputs_keep_their_shape_and_are_those_of_the_dequantized_model(
    backend: Backend, plan: dict[str, str]
) -> None:
    backend.apply(plan)
    ours, theirs = backend.run(), dequantized(Tokens().eval(), plan)
    assert ours.shape == theirs.shape == (*TOKENS.shape, 16)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() <= backend.tolerance * np.abs(theirs).max()


def test_outputs_come_closer_with_every_bit(backend: Backend) -> None:
    original = dequantized(Tokens().eval(), {})
    errors = []
    for bits in (2, 4, 8):
        backend.apply(dict.fromkeys(LAYERS, f"int{bits}-g32"))
        errors.append(float(np.abs(backend.run() - original).max() / np.abs(original).max()))
    # A step is 2 / (2^bits - 1) of the largest weight; three layers stay well within three times that.
    assert errors == sorted(errors, reverse=True)
    for bits, error in zip((2, 4, 8), errors, strict=True):
        assert error <= 3 * 2 / (2**bits - 1) + backend.tolerance


def test_layers_that_the_plan_does_not_name_are_untouched(backend: Backend) -> None:
    backend.apply({"up": "int4-g16"})
    model = Tokens()
    for layer in ("embed", "down"):
        assert np.array_equal(backend.weight(layer), model.get_submodule(layer).weight.detach().numpy())


@by_plan
def test_the_original_is_untouched(backend: Backend, plan: dict[str, str]) -> None:
    before = backend.original()
    backend.apply(plan)
    backend.run()
    assert backend.original() == before


def test_an_empty_plan_changes_nothing(backend: Backend) -> None:
    backend.apply({})
    np.testing.assert_allclose(backend.run(), dequantized(Tokens().eval(), {}), rtol=1e-5, atol=1e-6)


def test_the_same_plan_gives_the_same_result(backend: Backend) -> None:
    outputs = []
    for _ in range(2):
        backend.apply(PLANS[2])
        outputs.append(backend.run())
    assert np.array_equal(outputs[0], outputs[1])


def test_an_unknown_layer_is_refused_and_nothing_is_made(backend: Backend) -> None:
    before = backend.original()
    with pytest.raises(InvalidInputError, match="/assignment/upp: unknown layer 'upp'; did you mean 'up'"):
        backend.apply({"embed": "int4-g16", "upp": "int4-g16"})
    assert backend.nothing_was_made()
    assert backend.original() == before


def test_a_format_that_the_backend_cannot_run_is_refused_and_nothing_is_made(backend: Backend) -> None:
    before = backend.original()
    with pytest.raises(InvalidInputError, match=f"/assignment/up: .*{backend.unsupported}"):
        backend.apply({"embed": "int4-g16", "up": backend.unsupported})
    assert backend.nothing_was_made()
    assert backend.original() == before


def test_an_unknown_format_is_refused_and_nothing_is_made(backend: Backend) -> None:
    with pytest.raises(InvalidInputError, match="/assignment/up: unknown format 'int12'"):
        backend.apply({"up": "int12"})
    assert backend.nothing_was_made()


def test_an_unknown_backend_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(InvalidInputError, match="/backend: unknown backend 'torcha'; did you mean 'torchao'"):
        apply(Tokens(), {"up": "int8"}, "torcha")


def test_every_backend_is_in_this_suite() -> None:
    assert set(BACKENDS) == {"torchao", "onnxruntime"}


def test_quantize_is_imported_without_torch_and_without_onnx() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'torchao', 'onnx', 'onnxruntime']));"
        "import quantize; print(quantize.parse_format('int4-g64').stored_bytes((2, 128)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "136"
