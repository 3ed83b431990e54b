"""Latency budgets on a runtime: the tables, the clock that is read in turns, and llama.cpp itself."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer

from allocator import InvalidInputError, MissingPackageError, total
from benchmarks import quality
from benchmarks.llamacpp import find_llamacpp, logits, us_per_token
from benchmarks.quality_speed import Runtime, measured_speed
from benchmarks.speed_llamacpp import llamacpp_llama, with_latency
from benchmarks.speed_onnxruntime import onnxruntime_stack
from quantize import apply
from tests.quantize.exports.owners import Owner, python_of
from tests.quantize.feedback.problems import FORMATS, coupled
from tests.quantize.models import dequantized, outputs, tiny_decoder, tiny_llama

LLAMACPP = Owner("llama-cpp-python", "0.3.36")


def drifting(seconds: float) -> Runtime:
    """A clock that tells the truth times a factor that grows with every look at it, and a table in another unit."""
    profile, loss = coupled()
    table = np.array(profile.resources["latency_us"].values)
    looks = itertools.count()

    def times_us(plans: Sequence[Mapping[str, str]]) -> list[float]:
        slower = 1 + seconds * next(looks)
        chosen = [[list(FORMATS).index(name) for name in plan.values()] for plan in plans]
        return [slower * (200 + 3 * float(table[np.arange(5), columns].sum())) for columns in chosen]

    return Runtime(profile, "kl", loss, times_us, full_precision="int8")


@pytest.mark.parametrize("drift", [0.0, 0.05])
def test_a_machine_that_slows_down_changes_nothing(drift: float) -> None:
    still, found = measured_speed(drifting(0.0), 12), measured_speed(drifting(drift), 12)
    assert list(found.uniform_us.values()) == pytest.approx(
        [value * (1 + drift) for value in still.uniform_us.values()]
    )
    for before, item in zip(still.planned, found.planned, strict=True):
        assert item.plan == before.plan
        assert item.measured_us <= item.budget_us * (1 + 1e-9)
        assert abs(item.error) < 0.05
        assert abs(item.foreseen_at_first_us / item.measured_us - 1) > 0.5
        within = {name for name, time in found.uniform_us.items() if time <= item.budget_us}
        assert item.uniform in within
        assert item.loss <= found.uniform_loss[item.uniform]
        assert found.uniform_loss[item.uniform] == min(found.uniform_loss[name] for name in within)


def test_a_budget_that_no_plan_was_seen_to_keep_is_left_out() -> None:
    runtime, looks = drifting(0.0), itertools.count()

    def times_us(plans: Sequence[Mapping[str, str]]) -> list[float]:
        ours, *beside = runtime.times_us(plans)
        # Three looks for the reference and three for each format; from then on every plan is slow beside it.
        return [ours * (10 if next(looks) >= 3 + 3 * len(FORMATS) else 1), *beside]

    found = measured_speed(replace(runtime, times_us=times_us), 5)
    assert found.planned == ()
    assert min(found.uniform_us.values()) > 0


def test_other_faults_of_a_search_are_not_hidden() -> None:
    broken = replace(drifting(0.0), objective="no such table")
    with pytest.raises(InvalidInputError, match="no such table"):
        measured_speed(broken, 5)


def test_latencies_of_groups_add_up_to_those_of_plans() -> None:
    profile, _ = coupled()
    profile = profile.model_copy(update={"resources": {}})
    random = np.random.default_rng(3)
    shapes = {"l0": (8, 8), "l1": (8, 8), "l3": (8, 16), "l4": (8, 8)}  # l2 is only looked up
    true = {shape: np.sort(random.uniform(1, 5, 4)) for shape in set(shapes.values())}

    def times_us(plans: Sequence[Mapping[str, str]]) -> list[float]:
        return [
            7 + sum(float(true[shape][list(FORMATS).index(plan[name])]) for name, shape in shapes.items())
            for plan in plans
        ]

    filled = with_latency(profile, shapes, times_us)
    for names in itertools.product(FORMATS, repeat=5):
        plan = {f"l{index}": name for index, name in enumerate(names)}
        assert total(filled, "latency_us", plan) == pytest.approx(times_us([plan])[0])


def test_the_stack_has_losses_and_times(tmp_path: Path) -> None:
    stack = onnxruntime_stack(tmp_path, widths=(64, 128, 32), rounds=3)
    plans = [
        dict.fromkeys((layer.name for layer in stack.profile.layers), name) for name in stack.profile.formats
    ]
    assert all(first > second for first, second in itertools.pairwise(map(stack.loss, plans)))
    assert len(stack.times_us(plans)) == 4
    assert min(stack.times_us(plans)) > 0


@pytest.mark.rare  # a clock that others slow down proves nothing: run it on a quiet machine
def test_onnxruntime_is_measured(tmp_path: Path) -> None:
    found = measured_speed(onnxruntime_stack(tmp_path, widths=(512, 1024, 512), rounds=8), 5, shares=(0.7,))
    assert all(time > 0 for time in found.uniform_us.values())
    assert found.uniform_loss["int2-g32"] > found.uniform_loss["int8-g32"] > found.uniform_loss["fp32"]
    assert found.planned[0].measured_us > 0
    assert 1 <= found.planned[0].evaluations <= 5


@pytest.mark.parametrize("python", [sys.executable, "/nowhere/python"])
def test_without_llamacpp_it_says_how_to_get_it(python: str) -> None:
    with pytest.raises(MissingPackageError, match=r"(?s)expected a Python with llama_cpp, got .*pip install"):
        find_llamacpp(python)
    with pytest.raises(typer.BadParameter, match="or measure --runtimes onnxruntime"):
        quality.speed(llamacpp=python)


def test_a_runtime_that_is_not_there() -> None:
    with pytest.raises(typer.BadParameter, match=r"'tflite'.*llama\.cpp"):
        quality.speed(runtimes="onnxruntime,tflite")


@pytest.mark.rare  # builds llama.cpp from source, tens of minutes
def test_llamacpp_says_what_the_rounded_model_says(tmp_path: Path) -> None:
    runtime = find_llamacpp(python_of(LLAMACPP))
    model = tiny_llama()
    model.save_pretrained(tmp_path / "in")
    names = [
        f"model.layers.{block}.{part}" for block in (0, 1) for part in ("self_attn.q_proj", "mlp.up_proj")
    ]
    tokens = np.array([[3, 14, 15, 9, 26, 5, 35, 8]])
    original = outputs(model, tokens)[0]
    # llama.cpp keeps keys and values in half precision, and rounds the inputs of quantized weights to 8 bits itself.
    for fmt, tolerance in (
        ("fp32", 1e-3),
        ("fp16", 1e-3),
        ("int8-g32", 0.02),
        ("mxfp4", 0.02),
        ("int4-g32", 0.02),
    ):
        plan = dict.fromkeys(names, fmt)
        path = apply(tmp_path / "in", plan, "gguf", path=tmp_path / f"{fmt}.gguf")
        found = logits(runtime, path, tokens[0].tolist(), 50)
        expected = dequantized(model, plan, tokens)[0]
        off, moved = (
            float(np.linalg.norm(said - expected) / np.linalg.norm(expected)) for said in (found, original)
        )
        assert off <= tolerance
        if fmt in ("mxfp4", "int4-g32"):
            assert moved > 5 * off  # what is compared is the rounding, bit by bit, and not the noise
    times = us_per_token(runtime, [path, path], tokens[0].tolist(), 4)
    assert times.shape == (4, 2)
    assert (times > 0).all()
    with pytest.raises(RuntimeError, match=r"llama\.cpp ended with 1: .*cannot load"):
        logits(runtime, tmp_path / "in" / "config.json", [1], 50)


@pytest.mark.rare
@pytest.mark.parametrize("kind", ["llama", "llama3", "mistral", "qwen2", "qwen3"])
def test_llamacpp_says_what_other_architectures_say(tmp_path: Path, kind: str) -> None:
    runtime = find_llamacpp(python_of(LLAMACPP))
    model = tiny_decoder(kind)
    model.save_pretrained(tmp_path / "in")
    tokens = np.random.default_rng(0).integers(0, 50, (1, 96))
    path = apply(
        tmp_path / "in", {"model.layers.0.self_attn.q_proj": "fp32"}, "gguf", path=tmp_path / "out.gguf"
    )
    found, expected = logits(runtime, path, tokens[0].tolist(), 50), outputs(model, tokens)[0]
    assert np.linalg.norm(found - expected) <= 2e-3 * np.linalg.norm(expected)


@pytest.mark.rare
def test_llamacpp_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITALLOC_CACHE", str(tmp_path / "cache"))
    runtime = find_llamacpp(python_of(LLAMACPP))
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    found = measured_speed(llamacpp_llama(runtime, tmp_path, sizes, rounds=8), 5, shares=(0.7,))
    assert found.uniform_loss["int4-g32"] > found.uniform_loss["int8-g32"] > found.uniform_loss["fp32"]
    assert all(time > 0 for time in found.uniform_us.values())
    assert found.planned[0].loss > 0
