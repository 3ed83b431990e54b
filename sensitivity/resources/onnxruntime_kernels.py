"""Latency measured here: one ONNX file per shape and format, made by the backend that ships the plan.

A file holds as many ``MatMul`` (or ``Gather``) nodes as the model has layers of that shape, each with a weight of its
own, and :mod:`quantize.backends.onnxruntime.apply` replaces them by its packed kernels. A layer's figure is the time
of the
file divided by their number, so that a weight is found in the processor's cache, or not, as in the model. The formats
of a shape run in turn, so that a machine that slows down slows all of them. What a file without work costs is measured
too: it is taken off, and is the constant of the table, since a real file pays it once.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from allocator import Fault, InvalidInputError
from allocator.contract.errors import require
from quantize import StorageFormat
from quantize.backends.onnxruntime.apply import apply, require_supported
from quantize.backends.onnxruntime.export import LAYERS_KEY
from sensitivity.forward.forward_pass import Call
from sensitivity.resources.latency import Latencies, RowWork, Timing

_LAYER = "layer"
_WARM_UP = 3
_MOST_WEIGHTS = 2**25  # of several layers in one file: 128 MiB in single precision
_FILE_BYTES = 2**31  # what protocol buffers can hold
_Run: TypeAlias = Callable[[], object]
_Shape: TypeAlias = tuple[str, int, tuple[int, int]]  # operation, rows of the input, shape of the weight


def onnxruntime_kernels(
    works: Sequence[RowWork], formats: Sequence[StorageFormat], *, runs: int = 25, threads: int = 1
) -> Latencies:
    """Measure every distinct shape in every format.

    Args:
        runs: Measured runs of each kernel, after three that are not counted.

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
    require("onnx", "onnx")
    runtime = require("onnxruntime", "onnx")
    refused = {fmt.name: _refusal(fmt) for fmt in formats}
    runnable = [fmt for fmt in formats if refused[fmt.name] is None]
    constant = _timed([_idle(threads)], runs)[0].median_us
    shapes = [[_shape(call, work) for call in work.calls] for work in works]
    known = {
        shape: _measured(shape, count, runnable, runs, threads, constant)
        for shape, count in Counter(shape for used in shapes for shape in used).items()
        if shape is not None
    }
    entries = tuple(tuple(_entry(used, known, fmt, refused[fmt.name]) for fmt in formats) for used in shapes)
    where = f"ONNX Runtime {runtime.__version__} on the CPU, {threads} thread{'s' * (threads > 1)}"
    return Latencies(entries, constant, f"{where}, median of {runs} runs")


def _refusal(fmt: StorageFormat) -> str | None:
    try:
        require_supported({_LAYER: fmt})
    except InvalidInputError as error:
        return error.faults[0].detail
    return None


def _shape(call: Call, work: RowWork) -> _Shape | None:
    if call.operation not in ("matmul", "lookup") or work.shape is None:
        return None
    rows, columns = work.shape
    if 4 * rows * columns >= _FILE_BYTES:
        return None
    return call.operation, call.m, (rows, columns)


def _entry(
    shapes: list[_Shape | None],
    known: dict[_Shape, dict[str, Timing]],
    fmt: StorageFormat,
    refused: str | None,
) -> Timing | str:
    if refused is not None:
        return refused
    timings = [known[shape][fmt.name] for shape in shapes if shape is not None]
    if len(timings) < len(shapes):
        return "timed are Linear and Embedding below 2 GiB; take a roofline or a table for other rows"
    return Timing(sum(item.median_us for item in timings), sum(item.spread_us for item in timings))


def _measured(
    shape: _Shape, count: int, formats: Sequence[StorageFormat], runs: int, threads: int, constant: float
) -> dict[str, Timing]:
    copies = max(1, min(count, _MOST_WEIGHTS // (shape[2][0] * shape[2][1])))
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "original.onnx"
        feed = _write(shape, copies, original)
        sessions = []
        for fmt in formats:
            path = apply(original, {_LAYER: fmt}, path=Path(folder) / f"{fmt.name}.onnx")
            sessions.append(_session(path, feed, threads))
    timings = _timed(sessions, runs)
    return {
        fmt.name: Timing(max(timing.median_us - constant, 0.0) / copies, timing.spread_us / copies)
        for fmt, timing in zip(formats, timings, strict=True)
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
        made = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1])
        _save([node], value, [made], [], path)
        return _session(path, np.ones(1, dtype=np.float32), threads)


def _write(shape: _Shape, copies: int, path: Path) -> np.ndarray[Any, Any]:
    from onnx import TensorProto, helper, numpy_helper

    operation, m, (rows, columns) = shape
    random = np.random.default_rng(0)  # how long a kernel takes does not depend on the numbers
    lookup = operation == "lookup"
    nodes, stored, made = [], [], []
    for copy in range(copies):
        weight = random.standard_normal((rows, columns), dtype=np.float32)
        name, output = f"weight{copy}", f"output{copy}"
        stored.append(numpy_helper.from_array(weight if lookup else np.ascontiguousarray(weight.T), name))
        inputs = [name, "input"] if lookup else ["input", name]
        nodes.append(helper.make_node("Gather" if lookup else "MatMul", inputs, [output], f"node{copy}"))
        made.append(
            helper.make_tensor_value_info(output, TensorProto.FLOAT, [m, columns if lookup else rows])
        )
    kind, sizes = (TensorProto.INT64, [m]) if lookup else (TensorProto.FLOAT, [m, columns])
    _save(nodes, helper.make_tensor_value_info("input", kind, sizes), made, stored, path)
    if lookup:
        return random.integers(0, rows, m)
    return random.standard_normal((m, columns), dtype=np.float32)


def _save(nodes: list[Any], given: Any, made: list[Any], stored: list[Any], path: Path) -> None:  # noqa: ANN401
    import onnx
    from onnx import helper

    graph = helper.make_graph(nodes, "kernels", [given], made, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    helper.set_model_props(model, {LAYERS_KEY: json.dumps({_LAYER: [node.name for node in nodes]})})
    onnx.save(model, os.fspath(path))


def _session(path: Path, feed: np.ndarray[Any, Any], threads: int) -> _Run:
    runtime = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    # Outputs stay where the runtime puts them, as they do between the layers of a model.
    binding = session.io_binding()
    binding.bind_cpu_input("input", feed)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)
