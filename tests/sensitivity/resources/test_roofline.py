"""Rooflines against the formula, and descriptions of devices."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from allocator import InvalidInputError
from quantize import parse_format
from sensitivity.resources import device_names, latency_us, load_device, roofline
from sensitivity.resources.latency import RowWork, Timing
from sensitivity.resources.roofline import Device
from sensitivity.rows.forward_pass import Call
from tests.sensitivity.decoders import decoder_study, llama
from tests.sensitivity.studies import make_study, squares

SLOW = Device("slow", 1.0, 3.0, "fp16", {"fp16": 0.05, "fp32": 0.025, "int8": 0.2}, {})
INT4 = parse_format("int4")


def matmul(m: int, k: int, n: int) -> RowWork:
    return RowWork("fc", (n, k), (Call("matmul", m, k, n, m, m * (k + n), ((n, k),)),))


def microseconds(work: RowWork, name: str, device: Device = SLOW, inputs: str | None = None) -> float:
    ((entry,),) = roofline([work], [parse_format(name)], device=device, inputs=inputs).entries
    assert isinstance(entry, Timing)
    assert entry.spread_us == 0
    return entry.median_us


def test_few_tokens_wait_for_the_weight() -> None:
    # 1000 rows of 500 B of codes and 2 B of scale, and 2000 numbers of 2 B, at 1 GB/s = 1000 B/us, and a launch
    assert microseconds(matmul(1, 1000, 1000), "int4") == pytest.approx(
        1000 * 502 / 1000 + 2000 * 2 / 1000 + 3
    )


def test_many_tokens_wait_for_arithmetic() -> None:
    # 2 · 10⁴ · 10⁶ operations at 0.05 · 10⁶ per us
    assert microseconds(matmul(10_000, 1000, 1000), "int4") == pytest.approx(2e10 / 0.05e6 + 3)
    assert microseconds(matmul(10_000, 1000, 1000), "fp32") == pytest.approx(2e10 / 0.025e6 + 3)


def test_integer_arithmetic_is_asked_for() -> None:
    work = matmul(10_000, 1000, 1000)
    assert microseconds(work, "int4", inputs="int8") == pytest.approx(
        max(2e10 / 0.2e6, (1000 * 502 + 10_000 * 2000) / 1000) + 3
    )
    assert microseconds(work, "fp16", inputs="int8") == microseconds(work, "fp16")


def test_several_uses_add_up_and_attention_reads_its_cache() -> None:
    call = matmul(1, 64, 64).calls[0]
    once = microseconds(RowWork("fc", (64, 64), (call,)), "int4")
    assert microseconds(RowWork("fc", (64, 64), (call, call)), "int4") == pytest.approx(2 * once)
    attention = Call("attention", 4, 16, 500, 1, 64, ((1000, 8), (1000, 8)))
    # 2 · 1000 heads of 4 B of codes and 2 B of scale, 64 numbers of 2 B
    assert microseconds(RowWork("kv", None, (attention,)), "int4") == pytest.approx((12_000 + 128) / 1000 + 3)


@given(st.integers(1, 4096), st.integers(1, 512), st.integers(1, 512), st.sampled_from(device_names()))
def test_no_figure_beats_the_memory_or_the_arithmetic(m: int, k: int, n: int, name: str) -> None:
    device = load_device(name)
    for fmt in ("int2", "int8", "fp16", "fp32"):
        made = microseconds(matmul(m, k, n), fmt, device)
        precision = fmt if fmt.startswith("fp") else device.weight_only
        assert made >= parse_format(fmt).stored_bytes((n, k)) / (device.bandwidth_gb_per_s * 1e3)
        assert made >= 2 * m * k * n / (device.peak_tera_ops[precision] * 1e6)
        assert made >= device.launch_us


def test_what_a_device_does_not_compute_has_a_reason() -> None:
    answer = roofline([matmul(1, 8, 8)], [parse_format("bf16"), INT4], device="nvidia-t4")
    assert answer.entries[0][0] == "NVIDIA T4 16 GB has no peak for bf16"
    assert isinstance(answer.entries[0][1], Timing)
    assert answer.note == "roofline of NVIDIA T4 16 GB, not measured"


def test_every_shipped_description_is_whole_and_says_where_its_figures_are_from() -> None:
    assert len(device_names()) >= 6
    for name in device_names():
        device = load_device(name)
        assert set(device.sources) == {"bandwidth_gb_per_s", "launch_us", "peak_tera_ops"}
        assert all(len(source) > 20 for source in device.sources.values())
        assert device.peak_tera_ops["fp32"] <= max(device.peak_tera_ops.values())


# Through the resource


def test_batch_tokens_and_context_scale_the_work() -> None:
    study = decoder_study(llama(), "weight", "kv_cache", formats=("int8",))
    names = [row.name for row in study.rows]

    def at(name: str, **load: int) -> float:
        value = latency_us(study, partial(roofline, device=SLOW), **load).table.values[names.index(name)][0]
        assert value is not None
        return value

    down, cache = "model.layers.0.mlp.down_proj", "model.layers.0.self_attn.kv_cache"
    weight = parse_format("int8").stored_bytes((32, 48))
    for load, tokens in (({}, 7), ({"batch": 4}, 28), ({"batch": 4, "tokens": 1}, 4), ({"tokens": 1}, 1)):
        assert at(down, **load) == pytest.approx((weight + tokens * (48 + 32) * 2) / 1000 + 3), load
    # int8: 10 B per head of width 8, two heads each of keys and values; 4 query heads read and write 16 numbers
    for load, sequences, queries, context in (
        ({}, 1, 7, 7),
        ({"batch": 2}, 2, 7, 7),
        ({"tokens": 1, "context": 4096}, 1, 1, 4096),
        ({"batch": 8, "tokens": 1, "context": 100}, 8, 1, 100),
    ):
        moved = sequences * (queries * 4 * 16 * 2 + context * 4 * 10)
        assert at(cache, **load) == pytest.approx(moved / 1000 + 3), load


def test_convolutions_scale_with_the_batch_only() -> None:
    study = make_study(nn.Sequential(nn.Conv2d(3, 4, 3)), [torch.ones(2, 3, 6, 6)], squares, ["fp16"])
    source = partial(roofline, device=SLOW)
    moved = 4 * 27 * 2 + (3 * 36 + 4 * 16) * 2
    assert latency_us(study, source).table.values == ((pytest.approx(moved / 1000 + 3),),)
    assert latency_us(study, source, batch=1, tokens=9).table == latency_us(study, source).table
    more = 4 * 27 * 2 + 10 * (3 * 36 + 4 * 16) * 2
    assert latency_us(study, source, batch=10).table.values == ((pytest.approx(more / 1000 + 3),),)


@pytest.mark.parametrize("name", ["batch", "tokens", "context"])
def test_loads_below_one_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"/resources/latency_us/{name}: expected at least 1, got 0"):
        latency_us(decoder_study(llama()), partial(roofline, device=SLOW), **{name: 0})


# Descriptions

GOOD = """
name = "mine"
bandwidth_gb_per_s = 10
launch_us = 0
weight_only = "fp32"
[peak_tera_ops]
fp32 = 1.5
[sources]
bandwidth_gb_per_s = "measured"
launch_us = "measured"
peak_tera_ops = "measured"
"""


def test_a_description_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    device = load_device(path)
    assert (device.name, device.bandwidth_gb_per_s, device.launch_us) == ("mine", 10.0, 0.0)
    assert microseconds(matmul(1, 10, 10), "int8", device) == pytest.approx((10 * 12 + 20 * 4) / 10_000)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"bandwidth_gb_per_s": -1}, "/bandwidth_gb_per_s: expected a number above 0, got -1"),
        ({"bandwidth_gb_per_s": 0}, "/bandwidth_gb_per_s: expected a number above 0, got 0"),
        ({"launch_us": -0.5}, r"/launch_us: expected a number of at least 0, got -0\.5"),
        ({"launch_us": float("nan")}, "/launch_us: expected a number of at least 0, got nan"),
        ({"bandwidth_gb_per_s": "fast"}, "/bandwidth_gb_per_s: expected a number above 0, got 'fast'"),
        ({"bandwidth_gb_per_s": True}, "/bandwidth_gb_per_s: expected a number above 0, got True"),
        ({"peak_tera_ops": {"fp32": 0}}, "/peak_tera_ops/fp32: expected a number above 0, got 0"),
        ({"peak_tera_ops": {"fp32": 1, "int9": 1}}, "/peak_tera_ops/int9: unknown precision 'int9'"),
        ({"peak_tera_ops": {}}, "/peak_tera_ops: expected a table of precisions and peaks"),
        ({"peak_tera_ops": 3}, "/peak_tera_ops: expected a table of precisions and peaks"),
        ({"weight_only": "fp16"}, "/weight_only: unknown precision 'fp16'; known: 'fp32'"),
        ({"sources": {}}, "/sources/bandwidth_gb_per_s: say where this figure is from"),
        ({"sources": "datasheet"}, "/sources/launch_us: say where this figure is from"),
        ({"bandwith": 3}, "/bandwith: unknown field 'bandwith'; did you mean 'bandwidth_gb_per_s'"),
        ({"launch_us": None}, "/launch_us: is missing from the description"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(
    tmp_path: Path, change: dict[str, Any], detail: str
) -> None:
    described = tomllib.loads(GOOD) | change
    path = tmp_path / "mine.toml"
    path.write_text(as_toml({name: value for name, value in described.items() if value is not None}))
    with pytest.raises(InvalidInputError, match=detail):
        load_device(path)


def as_toml(described: dict[str, Any]) -> str:
    def plain(value: object) -> str:
        return str(value).lower() if isinstance(value, bool) else repr(value)

    simple = [f"{name} = {plain(value)}" for name, value in described.items() if not isinstance(value, dict)]
    tables = [
        f"[{name}]\n" + "\n".join(f"{key} = {plain(item)}" for key, item in value.items())
        for name, value in described.items()
        if isinstance(value, dict)
    ]
    return "\n".join([*simple, *tables])


def test_unknown_and_unreadable_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="unknown device 'nvidia-t5'; did you mean 'nvidia-t4'"):
        load_device("nvidia-t5")
    with pytest.raises(InvalidInputError, match=r"cannot read the description .*absent\.toml"):
        load_device(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text('name = "a"\nlaunch_us = fast')
    with pytest.raises(InvalidInputError, match=r"cannot read the description .*line 2"):
        load_device(broken)


def test_a_precision_that_the_device_lacks_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="unknown precision of slow 'int4'; did you mean 'int8'"):
        roofline([matmul(1, 8, 8)], [INT4], device=SLOW, inputs="int4")
