"""Latency measured here: one small ONNX file per shape and format, made by the backend that ships the plan.

A file holds a single ``MatMul`` (or ``Gather``) that :mod:`quantize.backends.onnxruntime` replaces by its packed
kernel. The formats of a shape run in turn, so that a machine that slows down slows all of them. What a file without
work costs is measured too: it is taken off every figure and is the constant of the table, since a real file pays it
once.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from allocator import Fault, InvalidInputError
from allocator.errors import require
from quantize import Format
from quantize.backends.onnxruntime import apply, require_supported
from quantize.onnx_export import LAYERS_KEY
from sensitivity.forward_pass import Call
from sensitivity.resources.latency import Latencies, Timing, Work

_LAYER = "layer"
_WARM_UP = 3
_Run: TypeAlias = Callable[[], object]
_Shape: TypeAlias = tuple[str, int, tuple[int, int]]  # operation, rows of the input, shape of the weight


def onnxruntime_kernels(
    works: Sequence[Work], formats: Sequence[Format], *, runs: int = 25, threads: int = 1
) -> Latencies:
    """Measure every distinct shape in every format.

    Args:
        works: What the rows do.
        formats: Columns.
        runs: Measured runs of each kernel, after three that are not counted.
        threads: Threads of ONNX Runtime.

    Returns:
        Medians and spreads; a reason for formats, convolutions and attention that the backend does not run.

    Raises:
        InvalidInputError: ``runs`` or ``threads`` is below one.
        MissingPackageError: onnx or onnxruntime is not installed.
    """
    for name, given in (("runs", runs), ("threads", threads)):
        if given < 1:
            raise InvalidInputError(
                Fault(f"/resources/latency_us/{name}", f"expected at least 1, got {given}")
            )
    runtime = require("onnxruntime", "onnx")
    refused = {target.name: _refusal(target) for target in formats}
    runnable = [target for target in formats if refused[target.name] is None]
    constant = _timed([_idle(threads)], runs)[0].median_us
    known: dict[_Shape, dict[str, Timing]] = {}
    entries = []
    for work in works:
        shapes = [_shape(call, work) for call in work.calls]
        for shape in shapes:
            if shape is not None and shape not in known:
                known[shape] = _measured(shape, runnable, runs, threads, constant)
        entries.append(tuple(_entry(shapes, known, target, refused[target.name]) for target in formats))
    where = f"ONNX Runtime {runtime.__version__} on the CPU, {threads} thread{'s' * (threads > 1)}"
    return Latencies(tuple(entries), constant, f"{where}, median of {runs} runs")


def _refusal(target: Format) -> str | None:
    try:
        require_supported({_LAYER: target})
    except InvalidInputError as error:
        return error.faults[0].detail
    return None


def _shape(call: Call, work: Work) -> _Shape | None:
    if call.operation not in ("matmul", "lookup") or work.shape is None:
        return None
    rows, columns = work.shape
    return call.operation, call.m, (rows, columns)


def _entry(
    shapes: list[_Shape | None], known: dict[_Shape, dict[str, Timing]], target: Format, refused: str | None
) -> Timing | str:
    if refused is not None:
        return refused
    timings = [known[shape][target.name] for shape in shapes if shape is not None]
    if len(timings) < len(shapes):
        return (
            "the onnxruntime backend runs Linear and Embedding; take a roofline or a table for other layers"
        )
    return Timing(sum(item.median_us for item in timings), sum(item.spread_us for item in timings))


def _measured(
    shape: _Shape, formats: Sequence[Format], runs: int, threads: int, constant: float
) -> dict[str, Timing]:
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "original.onnx"
        feed = _write(shape, original)
        sessions = []
        for target in formats:
            path = apply(original, {_LAYER: target}, path=Path(folder) / f"{target.name}.onnx")
            sessions.append(_session(path, feed, threads))
    timings = _timed(sessions, runs)
    return {
        target.name: Timing(max(timing.median_us - constant, 0.0), timing.spread_us)
        for target, timing in zip(formats, timings, strict=True)
    }


def _timed(sessions: Sequence[_Run], runs: int) -> list[Timing]:
    seconds = np.empty((_WARM_UP + runs, len(sessions)))
    for turn in seconds:
        for index, run in enumerate(sessions):
            start = time.perf_counter()
            run()
            turn[index] = time.perf_counter() - start
    low, median, high = np.quantile(seconds[_WARM_UP:] * 1e6, [0.25, 0.5, 0.75], axis=0)
    return [Timing(float(middle), float(half)) for middle, half in zip(median, (high - low) / 2, strict=True)]


def _idle(threads: int) -> _Run:
    from onnx import TensorProto, helper

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "idle.onnx"
        value = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1])
        node = helper.make_node("Identity", ["input"], ["output"])
        _save([node], value, helper.make_tensor_value_info("output", TensorProto.FLOAT, [1]), [], path)
        return _session(path, np.ones(1, dtype=np.float32), threads)


def _write(shape: _Shape, path: Path) -> np.ndarray[Any, Any]:
    from onnx import TensorProto, helper, numpy_helper

    operation, m, (rows, columns) = shape
    random = np.random.default_rng(0)  # how long a kernel takes does not depend on the numbers
    weight = random.standard_normal((rows, columns), dtype=np.float32)
    if operation == "lookup":
        stored = numpy_helper.from_array(weight, "weight")
        node = helper.make_node("Gather", ["weight", "input"], ["output"], name="node")
        given = helper.make_tensor_value_info("input", TensorProto.INT64, [m])
        made = helper.make_tensor_value_info("output", TensorProto.FLOAT, [m, columns])
        feed: np.ndarray[Any, Any] = random.integers(0, rows, m)
    else:
        stored = numpy_helper.from_array(np.ascontiguousarray(weight.T), "weight")
        node = helper.make_node("MatMul", ["input", "weight"], ["output"], name="node")
        given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [m, columns])
        made = helper.make_tensor_value_info("output", TensorProto.FLOAT, [m, rows])
        feed = random.standard_normal((m, columns), dtype=np.float32)
    _save([node], given, made, [stored], path)
    return feed


def _save(nodes: list[Any], given: Any, made: Any, stored: list[Any], path: Path) -> None:  # noqa: ANN401
    import onnx
    from onnx import helper

    graph = helper.make_graph(nodes, "kernel", [given], [made], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    helper.set_model_props(model, {LAYERS_KEY: f'{{"{_LAYER}": ["node"]}}'})
    onnx.save(model, os.fspath(path))


def _session(path: Path, feed: np.ndarray[Any, Any], threads: int) -> _Run:
    runtime = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"input": feed})
