"""Microseconds of one pass, layer by layer, from one of three sources behind one interface.

========================  ==================================================================================
source                    where the figures come from
========================  ==================================================================================
``onnxruntime_kernels``   measured here: the kernel that the ONNX Runtime backend ships, per shape and format
``roofline``              computed from a description of a device that need not be here
``latency_table``         a CSV file that the user brings
========================  ==================================================================================

Rows add up, plus a constant that is paid once. What lies between the rows (norms, activation functions, copies) is not
in the table: compare plans with it, and measure the whole model before promising a figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from allocator import Fault, InvalidInputError, ResourceTable
from sensitivity.forward.forward_pass import Call, ForwardPass, forward_pass
from sensitivity.resources.latency import Latencies, LatencySource, RowWork, Timing
from sensitivity.resources.onnxruntime_kernels import onnxruntime_kernels
from sensitivity.resources.spent import Spent
from sensitivity.rows import Row, weight_shape
from sensitivity.study.study import Study


@dataclass(frozen=True)
class Load:
    """How much passes through the model at a time.

    Attributes:
        batch: Samples.
        tokens: Tokens per sample, 1 for decoding; those of the first calibration batch when absent.
        context: Tokens that attention reads per sample; those of the first calibration batch when absent.
    """

    batch: int = 1
    tokens: int | None = None
    context: int | None = None

    def __post_init__(self) -> None:
        for name, given in vars(self).items():
            if given is not None and given < 1:
                where = f"/resources/latency_us/{name}"
                raise InvalidInputError(Fault(where, f"expected at least 1, got {given}"))


def latency_us(
    study: Study,
    source: LatencySource = onnxruntime_kernels,
    batch: int = 1,
    tokens: int | None = None,
    context: int | None = None,
) -> Spent:
    """Fill the table from a source.

    Args:
        source: Where figures come from; bind its options with :func:`functools.partial`.
        batch: Samples in a pass.
        tokens: Tokens per sample, 1 for decoding; those of the first calibration batch when absent.
        context: Tokens that attention reads per sample; those of the first calibration batch when absent.

    Returns:
        (L, F) microseconds; null, with the reason, where the source has no figure. Rounding of activations is not
        timed: their rows spend 0.
    """
    answer = latencies(study, source, Load(batch, tokens, context))
    named = [
        (row.name, fmt.name, item)
        for row, found in zip(study.rows, answer.entries, strict=True)
        for fmt, item in zip(study.formats, found, strict=True)
    ]
    values = tuple(
        tuple(item.median_us if isinstance(item, Timing) else None for item in found)
        for found in answer.entries
    )
    reasons = {(row, fmt): item for row, fmt, item in named if isinstance(item, str)}
    note = f"{answer.note}; batch {batch}" + _spread(answer)
    return Spent(ResourceTable(values=values, unit="us", constant=answer.constant_us), note, reasons)


def latencies(study: Study, source: LatencySource, load: Load) -> Latencies:
    """Ask a source about every row, with the spread of each figure.

    Args:
        load: How much passes through the model at a time.

    Returns:
        (L, F) timings or reasons; rows that do no work of their own take no time.
    """
    seen = forward_pass(study)
    works = [_work(row, seen, load) for row in study.rows]
    asked = [work for work in works if work.calls]
    answer = source(asked, study.formats)
    entries = dict(zip((work.name for work in asked), answer.entries, strict=True))
    idle: tuple[Timing | str, ...] = (Timing(0.0),) * len(study.formats)
    return replace(answer, entries=tuple(entries.get(work.name, idle) for work in works))


def _work(row: Row, seen: ForwardPass, load: Load) -> RowWork:
    calls = tuple(_scaled(call, seen.samples, load) for call in seen.calls[row.name] if call.m)
    return RowWork(row.name, weight_shape(row), calls)


def _scaled(call: Call, samples: int, load: Load) -> Call:
    growth = load.batch / samples
    if load.tokens is not None and call.tokens is not None:
        growth = load.batch * load.tokens / call.tokens
    m, moved = math.ceil(call.m * growth), math.ceil(call.moved * growth)
    if call.operation == "lookup":
        return replace(call, m=m, moved=moved, reads=((m, call.n),))
    if call.operation != "attention":
        return replace(call, m=m, moved=moved)
    context = load.context or call.n
    stretch = load.batch / samples * context / call.n
    reads = tuple((math.ceil(rows * stretch), width) for rows, width in call.reads)
    return replace(call, m=m, n=context, moved=moved, reads=reads)


def _spread(answer: Latencies) -> str:
    found: Sequence[Timing] = [item for row in answer.entries for item in row if isinstance(item, Timing)]
    total = sum(item.median_us for item in found)
    spread = sum(item.spread_us for item in found)
    return f"; spread {spread / total:.1%} of the median" if spread and total else ""
