"""Latency measured here: structure, reasons, and that it measures what it says."""

from __future__ import annotations

import sys
from functools import partial

import pytest
import torch
from torch import nn

from allocator import InvalidInputError, MissingPackageError
from quantize import parse_format
from sensitivity.resources import latency_us, onnxruntime_kernels
from sensitivity.resources.latency import RowWork, Timing
from sensitivity.resources.latency_us import Load, latencies
from sensitivity.rows.forward_pass import Call
from tests.sensitivity.decoders import decoder_study, llama
from tests.sensitivity.studies import make_study, squares

QUICK = partial(onnxruntime_kernels, runs=5)


def matmul(name: str, m: int, k: int, n: int) -> RowWork:
    return RowWork(name, (n, k), (Call("matmul", m, k, n, m, m * (k + n), ((n, k),)),))


def test_kernels_take_time_and_larger_ones_take_more() -> None:
    formats = [parse_format(name) for name in ("int4-g32", "int8-g32", "fp32")]
    answer = QUICK([matmul("small", 4, 128, 128), matmul("large", 64, 512, 2048)], formats)
    assert answer.constant_us > 0
    for small, large in zip(*answer.entries, strict=True):
        assert isinstance(small, Timing)
        assert isinstance(large, Timing)
        assert large.median_us > max(small.median_us, 0)
        assert large.spread_us > 0
    assert answer.note.startswith("ONNX Runtime 1.")
    assert answer.note.endswith("on the CPU, 1 thread, median of 5 runs")


def test_the_same_shape_is_measured_once() -> None:
    works = [matmul("first", 4, 64, 64), matmul("second", 4, 64, 64), matmul("other", 8, 64, 64)]
    first, second, other = QUICK(works, [parse_format("int4-g32")]).entries
    assert first == second != other


def test_a_layer_among_many_of_its_shape_takes_its_own_time_and_not_theirs() -> None:
    formats = [parse_format("fp32")]
    ((alone,),) = QUICK([matmul("alone", 256, 256, 256)], formats).entries
    many = QUICK([matmul(str(index), 256, 256, 256) for index in range(32)], formats).entries
    assert isinstance(alone, Timing)
    for (entry,) in many:
        assert isinstance(entry, Timing)
        assert alone.median_us / 8 < entry.median_us < alone.median_us * 8


def test_what_the_backend_does_not_run_has_a_reason() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 32))
    study = make_study(
        model, [torch.ones(2, 3, 6, 6)], squares, ["int4-g32", "int3-g32", "uint4-g32", "bf16"]
    )
    spent = latency_us(study, QUICK)
    convolution, linear = spent.table.values
    assert convolution == (None,) * 4
    assert linear[0] is not None
    assert linear[1:] == (None, None, None)
    assert "timed are Linear and Embedding below 2 GiB" in spent.reasons["0", "int4-g32"]
    assert "symmetric 2, 4 and 8 bits" in spent.reasons["2", "int3-g32"]
    assert "has no bf16" in spent.reasons["2", "bf16"]
    assert set(spent.reasons) == {(name, fmt.name) for name in "02" for fmt in study.formats} - {
        ("2", "int4-g32")
    }


def test_weights_that_no_file_can_hold_have_a_reason() -> None:
    huge = matmul("lm_head", 1, 2**14, 2**15)
    ((entry,),) = QUICK([huge], [parse_format("int4-g32")]).entries
    assert entry == "timed are Linear and Embedding below 2 GiB; take a roofline or a table for other rows"


def test_a_decoder_has_lookups_tied_heads_and_caches() -> None:
    study = decoder_study(llama(tie_word_embeddings=True), "weight", "kv_cache", formats=("int4-g32", "fp16"))
    spent = latency_us(study, QUICK, batch=2, tokens=1)
    found = dict(zip((row.name for row in study.rows), spent.table.values, strict=True))
    assert None not in found["model.embed_tokens"]
    assert found["model.layers.0.self_attn.kv_cache"] == (None, None)
    assert all(value is None or value >= 0 for row in spent.table.values for value in row)
    assert spent.table.constant > 0
    assert "; batch 2; spread " in spent.note


def test_every_figure_has_a_spread_of_its_own() -> None:
    study = decoder_study(llama(), "weight", "activation", formats=("int4-g32", "int3"))
    answer = latencies(study, QUICK, Load(batch=4))
    for row, (first, second) in zip(study.rows, answer.entries, strict=True):
        if row.name.endswith(".input"):
            assert first == second == Timing(0.0, 0.0)
        else:
            assert isinstance(first, Timing)
            assert first.spread_us > 0
            assert isinstance(second, str)


def test_the_numbers_differ_between_runs_and_nothing_else_does() -> None:
    study = make_study(nn.Sequential(nn.Linear(64, 64)), [torch.ones(2, 64)], squares, ["int4-g32", "int3"])
    first, second = (latency_us(study, QUICK) for _ in range(2))
    assert first.reasons == second.reasons
    assert [[value is None for value in row] for row in first.table.values] == [[False, True]]
    assert first.note.partition("; spread")[0] == second.note.partition("; spread")[0]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingPackageError, match=rf"^{package} is needed here .* pip install 'bitalloc\[onnx\]'"
    ):
        onnxruntime_kernels([], [parse_format("int8")])


@pytest.mark.parametrize("name", ["runs", "threads"])
def test_no_runs_and_no_threads_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"/resources/latency_us/{name}: expected at least 1, got 0"):
        onnxruntime_kernels([], [], **{name: 0})
