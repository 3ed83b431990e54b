"""`bitalloc lint`: findings as text and JSON, and an exit code for gates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.api.conftest import Run
from tests.api.helpers import tiny

QKV = [f"model.layers.0.self_attn.{name}_proj" for name in "qkv"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({f"{name}.weight": torch.zeros(64, 128) for name in QKV}, folder / "model.safetensors")
    return folder


def _plan(folder: Path, *formats: str) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps(dict(zip(QKV, formats, strict=True))))
    return path


def test_a_good_plan_ends_with_0(bitalloc: Run, tmp_path: Path, model: Path) -> None:
    plan = _plan(tmp_path, "int4-g64", "int4-g64", "int4-g64")
    done = bitalloc("lint", plan, "--runtime", "vllm", "--model", model)
    assert (done.code, done.out, done.err) == (0, "vllm: 0 errors, 0 warnings\n", "")


def test_errors_end_with_1(bitalloc: Run, tmp_path: Path, model: Path) -> None:
    plan = _plan(tmp_path, "int4-g64", "int4-g64", "int8-g256")
    done = bitalloc("lint", plan, "-r", "vllm", "--model", model)
    assert (done.code, done.err) == (1, "")
    first, second, third, last = done.out.splitlines()
    assert first.startswith(
        f"error [fused-shards] {', '.join(QKV)}: model.layers.0.self_attn.qkv_proj is loaded as one layer"
    )
    assert second.startswith(f"error [group-sizes] {QKV[2]}: groups of 256 do not divide rows of 128")
    assert third.startswith(f"warning [formats] {QKV[2]}: its fast kernels have groups of 32, 64, 128")
    assert last == "vllm: 2 errors, 1 warnings"


def test_warnings_do_not_change_the_exit_code(bitalloc: Run, tmp_path: Path) -> None:
    done = bitalloc("lint", _plan(tmp_path, "int3-g64", "int3-g64", "int3-g64"), "-r", "vllm", "--json")
    assert (done.code, done.err) == (0, "")
    (finding,) = json.loads(done.out)["findings"]
    assert (finding["severity"], finding["rule"], finding["layers"]) == ("warning", "formats", QKV)


def test_a_configuration_of_another_tool_is_linted(bitalloc: Run, tmp_path: Path, model: Path) -> None:
    config = {"bits": 4, "group_size": 64, "dynamic": {r"+:.*\.(q|k|v)_proj": {"bits": 8}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = bitalloc("lint", "config.json", "--format", "gptqmodel", "-r", "sglang", "--model", model)
    assert done.code == 1
    assert "error [fused-names]" in done.out


def test_our_own_export_is_linted_as_a_folder(bitalloc: Run, tmp_path: Path, model: Path) -> None:
    plan = _plan(tmp_path, "int4-g64", "int4-g64", "int4-g64")
    assert bitalloc("export", plan, "--to", "gptqmodel").code == 0
    done = bitalloc("lint", "export", "--format", "gptqmodel", "-r", "vllm", "--model", model)
    assert (done.code, done.out) == (0, "vllm: 0 errors, 0 warnings\n")


def test_a_profile_gives_names(bitalloc: Run, tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text(json.dumps(tiny()))
    (tmp_path / "plan.json").write_text('{"upp": "int4-g64"}')
    done = bitalloc("lint", "plan.json", "-r", "torchao", "--profile", "profile.json")
    assert done.code == 1
    assert done.out.startswith("error [unknown-names] upp: unknown layer 'upp'; did you mean 'up'?")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plan.json", "-r", "vlm"), "/runtime: unknown runtime 'vlm'; did you mean 'vllm'?"),
        (("plan.json", "-r", "vllm", "--format", "gtpq"), "/target: unknown target 'gtpq'"),
        (("gone.json", "-r", "vllm"), "cannot read the plan 'gone.json'"),
        (("gone.json", "-r", "vllm", "--format", "mlx"), "cannot read a mlx configuration at 'gone.json'"),
        (("plan.json", "-r", "vllm", "--model", "."), "got '.', which holds no *.safetensors"),
        (
            ("plan.json", "-r", "vllm", "--model", "a", "--profile", "b"),
            "--profile: give a model or a profile, not both",
        ),
        (("plan.json", "-r", "vllm", "--format", "gptqmodel"), "expected a whole number, got nothing"),
    ],
)
def test_what_cannot_be_used_ends_with_2(
    bitalloc: Run, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    _plan(tmp_path, "int4-g64", "int4-g64", "int4-g64")
    done = bitalloc("lint", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
