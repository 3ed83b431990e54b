"""What every backend promises, run against each of them."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allocator import InvalidInputError, Profile, load_profile
from quantize import BACKENDS, Rounding, parse_format, restored, round_trip
from quantize.rounding.nearest import Float32Array
from tests.quantize.backends.drivers import Backend, CompressedTensors, Gguf, OnnxRuntime, TorchAo
from tests.quantize.models import TOKENS, dequantized, outputs

NAMES = ("compressed-tensors", "gguf", "onnxruntime", "torchao")


def driver(name: str, tokens_file: Path, folder: Path) -> Backend:
    if name == "torchao":
        return TorchAo()
    if name == "onnxruntime":
        return OnnxRuntime(tokens_file, folder)
    return CompressedTensors(folder) if name == "compressed-tensors" else Gguf(folder)


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest, tokens_file: Path, tmp_path: Path) -> Backend:
    return driver(request.param, tokens_file, tmp_path)


@pytest.fixture(params=[name for name in NAMES if name != "torchao"])
def writer(request: pytest.FixtureRequest, tokens_file: Path, tmp_path: Path) -> Backend:
    """A backend that writes."""
    return driver(request.param, tokens_file, tmp_path)


def everything(folder: Path) -> dict[str, bytes]:
    return {
        os.fspath(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


# What is made


def test_weights_are_those_of_the_reference_bit_for_bit(backend: Backend) -> None:
    for plan in backend.plans():
        backend.apply(plan, **overwriting(backend))
        for layer, name in plan.items():
            expected = round_trip(backend.original_weight(layer), parse_format(name))
            assert np.array_equal(backend.weight(layer), expected), (layer, name)


def overwriting(backend: Backend) -> dict[str, Any]:
    return {} if backend.path is None else {"force": True}


def moments(backend: Backend) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for layer in backend.layers:
        weight = backend.original_weight(layer)
        inputs = np.random.default_rng(len(layer)).normal(size=(100, weight.shape[1])).cumsum(axis=1)
        found[layer] = np.ones(len(weight)) if "embed" in layer else inputs.T @ inputs
    return found


@pytest.mark.parametrize("method", ["scale_search", "gptq"])
def test_other_roundings_are_those_of_the_reference_bit_for_bit(backend: Backend, method: str) -> None:
    rounding, seconds = Rounding(method), moments(backend)
    for plan in backend.plans()[:2]:
        backend.apply(plan, rounding=rounding, moments=seconds, **overwriting(backend))
        changed = False
        for layer, name in plan.items():
            weight = backend.original_weight(layer)
            expected = restored(weight, parse_format(name), rounding, seconds[layer])
            assert np.array_equal(backend.weight(layer), expected), layer
            changed = changed or not np.array_equal(expected, round_trip(weight, parse_format(name)))
        assert changed


def test_outputs_keep_their_shape_and_are_those_of_the_dequantized_model(backend: Backend) -> None:
    for plan in backend.plans():
        backend.apply(plan, **overwriting(backend))
        ours, theirs = backend.run(), dequantized(backend.model, plan)
        assert ours.shape == theirs.shape
        assert ours.shape[:2] == TOKENS.shape
        assert ours.dtype == np.float32
        assert np.abs(ours - theirs).max() <= backend.tolerance * np.abs(theirs).max()


def test_what_onnx_runtime_does_to_inputs_is_an_option(tokens_file: Path, tmp_path: Path) -> None:
    """Nothing but the format is left where inputs stay as they are."""
    backend = OnnxRuntime(tokens_file, tmp_path)
    for plan in backend.plans():
        expected = dequantized(backend.model, plan)
        errors = {}
        for level in (1, 4):
            backend.apply(plan, accuracy_level=level, force=True)
            errors[level] = np.abs(backend.run() - expected).max() / np.abs(expected).max()
        assert errors[1] <= 1e-5 < errors[4] <= backend.tolerance
    with pytest.raises(InvalidInputError, match=r"/accuracy_level: expected one of 0, 1, 2, 3, 4, got 5"):
        backend.apply(plan, accuracy_level=5, force=True)


def test_outputs_come_closer_with_every_bit(backend: Backend) -> None:
    original = outputs(backend.model)
    errors = []
    for name, allowed in backend.widths:
        backend.apply(dict.fromkeys(backend.layers, name), **overwriting(backend))
        errors.append(float(np.abs(backend.run() - original).max() / np.abs(original).max()))
        assert errors[-1] <= allowed
    assert errors == sorted(errors, reverse=True)


def test_bytes_are_those_of_the_format_but_for_what_the_backend_names(backend: Backend) -> None:
    for plan in backend.plans():
        backend.apply(plan, **overwriting(backend))
        for layer, name in plan.items():
            shape, fmt = backend.original_weight(layer).shape, parse_format(name)
            beyond = backend.beyond_the_format(shape, fmt)
            assert backend.stored_bytes(layer) == fmt.stored_bytes(shape) + beyond, (layer, name)


def test_layers_that_the_plan_does_not_name_are_untouched(backend: Backend) -> None:
    first, planned, last = backend.layers
    backend.apply({planned: backend.mixed[0][1]})
    for layer in (first, last):
        assert np.array_equal(backend.weight(layer), backend.original_weight(layer))


def test_an_empty_plan_changes_nothing(backend: Backend) -> None:
    backend.apply({})
    np.testing.assert_allclose(backend.run(), outputs(backend.model), rtol=1e-5, atol=1e-6)


def test_the_same_plan_gives_the_same_result(backend: Backend) -> None:
    plan = backend.plans()[1]
    results = []
    for _ in range(2):
        backend.apply(plan, **overwriting(backend))
        results.append(
            (backend.run().tobytes(), {} if backend.path is None else everything(backend.path.parent))
        )
    assert results[0] == results[1]


def test_the_original_is_untouched(backend: Backend) -> None:
    before = backend.original()
    for plan in backend.plans():
        backend.apply(plan, **overwriting(backend))
        backend.run()
    assert backend.original() == before


# What is refused, with nothing made


def refused(backend: Backend, plan: dict[str, str], match: str, **options: Any) -> None:
    before = backend.original()
    with pytest.raises(InvalidInputError, match=match):
        backend.apply(plan, **options)
    assert backend.nothing_was_made()
    assert backend.original() == before


def test_a_plan_for_another_model_is_refused_and_every_strange_name_listed(backend: Backend) -> None:
    known = backend.layers[1]
    plan = {known: backend.mixed[0][1], f"{known}p": backend.mixed[0][1], "other.layer": backend.mixed[0][1]}
    match = rf"/assignment/{known}p: unknown layer '{known}p'; did you mean .*/assignment/other.layer: unknown layer"
    refused(backend, plan, f"(?s){match}")


def test_a_format_that_the_backend_lacks_is_refused(backend: Backend) -> None:
    first, second, _ = backend.layers
    plan = {first: backend.mixed[0][0], second: backend.unsupported}
    refused(backend, plan, f"/assignment/{second}: .*{backend.unsupported}")


def test_an_unknown_format_is_refused(backend: Backend) -> None:
    refused(backend, {backend.layers[1]: "int12"}, f"/assignment/{backend.layers[1]}: unknown format 'int12'")


def test_a_rounding_without_its_moments_is_refused(backend: Backend) -> None:
    _, second, third = backend.layers
    plan = {second: backend.mixed[0][1], third: backend.mixed[0][2]}
    given = {second: moments(backend)[second]}
    refused(
        backend,
        plan,
        f"/moments/{third}: gptq needs the second moment",
        rounding=Rounding("gptq"),
        moments=given,
    )


def test_a_moment_of_another_layer_is_refused(backend: Backend) -> None:
    second = backend.layers[1]
    plan, given = {second: backend.mixed[0][1]}, {second: np.eye(7)}
    refused(
        backend,
        plan,
        rf"/moments/{second}: expected .* got \(7, 7\)",
        rounding=Rounding("gptq"),
        moments=given,
    )


def profiled(backend: Backend, sizes: dict[str, int]) -> Profile:
    first, second, third = backend.layers
    layers = [
        {"name": name, "parameters": sizes.get(name, backend.original_weight(name).size), "unit": unit}
        for name, unit in ((first, None), (second, "pair"), (third, "pair"))
    ]
    formats = {name: {"weight_bits": 4} for name, _ in backend.widths}
    costs = {"kl": {"values": [[0.0] * len(formats)] * 3}}
    return load_profile({"formats": formats, "layers": layers, "costs": costs, "resources": {}})


def test_a_model_of_other_sizes_than_the_profiled_one_is_refused(backend: Backend) -> None:
    second, third = backend.layers[1:]
    plan = dict.fromkeys(backend.layers, backend.widths[1][0])
    other = profiled(backend, {second: 7, third: 8})
    match = f"(?s)/assignment/{second}: the profile has 7 weights, the model .*/assignment/{third}: the profile has 8"
    refused(backend, plan, match, profile=other)
    backend.apply(plan, profile=profiled(backend, {}))


@pytest.mark.parametrize("partial", [True, False])
def test_a_plan_that_splits_a_unit_is_refused(backend: Backend, partial: bool) -> None:
    _, second, third = backend.layers
    (finer, _), (finest, _) = backend.widths[1:]
    plan = {second: finer} if partial else {second: finer, third: finest}
    said = f"/assignment/{third}: unit 'pair' shares one format; '{second}' has {finer}, this layer "
    refused(backend, plan, said + ("nothing" if partial else finest), profile=profiled(backend, {}))


# What is in the way


def test_what_exists_is_kept_unless_it_may_be_replaced(writer: Backend) -> None:
    first, second = writer.plans()[:2]
    writer.apply(first)
    assert writer.path is not None
    before = everything(writer.path.parent)
    with pytest.raises(
        InvalidInputError, match=r"/path: .* exists; choose another name, or replace it with force"
    ):
        writer.apply(second)
    assert everything(writer.path.parent) == before
    writer.apply(second, force=True)
    after = everything(writer.path.parent)
    assert after.keys() == before.keys()
    assert after != before
    assert not [name for name in os.listdir(writer.path.parent) if name != writer.path.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupt_and_a_full_disk_leave_everything_as_it_was(
    writer: Backend, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = writer.plans()[:2]
    writer.apply(first)
    assert writer.path is not None
    before, original = everything(writer.path.parent), writer.original()
    # The last step before the result gets its name: all has been written by then.
    with monkeypatch.context() as patch:

        def broken(*_: object) -> None:
            raise error

        patch.setattr(Path, "chmod", broken)
        with pytest.raises(type(error)):
            writer.apply(second, force=True)
    assert everything(writer.path.parent) == before
    assert os.listdir(writer.path.parent) == [writer.path.name]
    assert writer.original() == original


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on the size of files")
def test_a_disk_that_fills_up_in_the_middle_leaves_everything_as_it_was(writer: Backend) -> None:
    first, second = writer.plans()[:2]
    writer.apply(first)
    assert writer.path is not None
    before = everything(writer.path.parent)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))  # writing beyond fails as on a full disk
    try:
        with pytest.raises(OSError, match=r"File too large|requested and \d+ written"):
            writer.apply(second, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert everything(writer.path.parent) == before


# The registry


def test_every_backend_is_in_this_suite() -> None:
    assert set(BACKENDS) == set(NAMES)


def test_quantize_is_imported_without_torch_and_without_onnx() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'torchao', 'onnx', 'onnxruntime', 'gguf']));"
        "import quantize; print(quantize.parse_format('int4-g64').stored_bytes((2, 128)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "136"


def test_checkpoints_are_packed_without_torch(tmp_path: Path) -> None:
    packer = CompressedTensors(tmp_path)
    code = (
        "import sys; sys.modules['torch'] = None; import quantize;"
        f"print(quantize.apply({os.fspath(packer.source)!r}, {packer.plans()[0]!r}, 'compressed-tensors',"
        f" path={os.fspath(packer.path)!r}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == os.fspath(packer.path)
    weights: dict[str, Float32Array] = {layer: packer.weight(layer) for layer in packer.layers}
    for layer, name in packer.plans()[0].items():
        assert np.array_equal(weights[layer], round_trip(packer.original_weight(layer), parse_format(name)))
