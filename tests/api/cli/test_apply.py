"""`bitalloc apply`: real files from real plans, and no file from any other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allocator import Allocation, InvalidInputError, solve
from api.cli.plans import read_allocation
from quantize import Rounding, apply
from quantize.rounding.moments import write_moments
from sensitivity.pretrained.text_encoder import load_text_encoder, minilm_folder
from sensitivity.pretrained.text_export import onnx_encoder
from tests.api.conftest import Run
from tests.api.helpers import tiny

LAYERS = (
    "embeddings.word_embeddings",
    "encoder.layer.0.attention.self.query",
    "encoder.layer.0.attention.self.key",
    "encoder.layer.0.attention.self.value",
    "encoder.layer.0.attention.output.dense",
    "encoder.layer.0.intermediate.dense",
    "encoder.layer.0.output.dense",
)

#: Said of plans from before profiles recorded which model they are of.
NOT_COMPARED = "note: the plan does not say which model it was made of; its weights were not compared\n"


def _plan(folder: Path, **assignment: str) -> Path:
    """A plan file as `bitalloc solve --out` writes it, from a profile of the layers it names."""
    profile = tiny(
        layers=[{"name": name} for name in assignment],
        formats={name: {"weight_bits": 4} for name in sorted(set(assignment.values()))},
    )
    row = [0.0] * len(profile["formats"])
    profile["costs"] = {"kl": {"values": [row] * len(assignment)}}
    profile["resources"] = {}
    path = folder / "plan.json"
    path.write_text(solve(profile, pin=assignment).model_dump_json(indent=2))
    return path


def _infeasible(folder: Path) -> Path:
    path = folder / "plan.json"
    path.write_text(solve(tiny(), budgets={"weight_bytes": 1}).model_dump_json())
    return path


def test_a_plan_for_minilm_becomes_a_file_that_encodes(bitalloc: Run, tmp_path: Path) -> None:
    import torch

    encoder, tokenizer = load_text_encoder(minilm_folder())
    names = [name for name, module in encoder.named_modules() if isinstance(module, torch.nn.Linear)]
    plan = _plan(tmp_path, **dict.fromkeys([LAYERS[0], *names], "int4-g64"))
    done = bitalloc("apply", plan, "--model", "all-MiniLM-L6-v2", "--out", "new/model.onnx", "--json")
    assert (done.code, done.err) == (0, NOT_COMPARED)
    path = Path("new/model.onnx")
    result = json.loads(done.out)
    assert result == {
        "path": str(path),
        "bytes": path.stat().st_size,
        "fp32_bytes": result["fp32_bytes"],
    }
    assert 6 < result["fp32_bytes"] / result["bytes"] < 8  # 4.25 bits, and the position embeddings in fp32

    batch = tokenizer(["Return the path of the file.", "A cat sat on the mat."])
    with torch.inference_mode():
        before = encoder(**batch)
    after = onnx_encoder(path)(batch)
    cosines = torch.nn.functional.cosine_similarity(before, after)
    assert bool((cosines > 0.9).all())
    assert bool((cosines < 0.99999).any())  # it really is another model


def test_formats_can_be_mixed_and_people_read_how_much_smaller_the_file_is(
    bitalloc: Run, tmp_path: Path, tiny_encoder: Path
) -> None:
    formats = ("int4-g64", "int8-g64", "int2-g64", "fp16", "int4-g32", "int8-g16", "fp32")
    plan = _plan(tmp_path, **dict(zip(LAYERS, formats, strict=True)))
    done = bitalloc("apply", plan, "--model", tiny_encoder)
    assert (done.code, done.err) == (0, NOT_COMPARED)
    size = Path("model.onnx").stat().st_size
    assert done.out.startswith(f"model.onnx: {size:,} bytes, 6.")
    assert done.out.endswith(" times smaller than fp32\n")
    _, tokenizer = load_text_encoder(tiny_encoder)
    assert onnx_encoder(Path("model.onnx"))(tokenizer(["one", "another"])).shape == (2, 64)


def _refused(done: Any, folder: Path, words: str) -> None:
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert all(line.startswith("error: ") for line in done.err.splitlines())
    assert [path.name for path in folder.iterdir()] == ["plan.json"]


def test_an_infeasible_plan_is_refused_and_nothing_written(
    bitalloc: Run, tmp_path: Path, tiny_encoder: Path
) -> None:
    done = bitalloc("apply", _infeasible(tmp_path), "--model", tiny_encoder)
    _refused(done, tmp_path, "/assignment: there is nothing to apply: the allocation is infeasible")


def test_three_bits_are_refused_and_nothing_written(
    bitalloc: Run, tmp_path: Path, tiny_encoder: Path
) -> None:
    plan = _plan(tmp_path, **dict.fromkeys(LAYERS[:2], "int4-g64"), **{LAYERS[2]: "int3-g64"})
    done = bitalloc("apply", plan, "--model", tiny_encoder)
    words = (
        f"/assignment/{LAYERS[2]}: ONNX Runtime runs symmetric 2, 4 and 8 bits on the CPU; 'int3-g64' is not"
    )
    _refused(done, tmp_path, words)
    assert done.err.count("\n") == 1


def test_a_plan_for_another_model_is_refused_and_nothing_written(
    bitalloc: Run, tmp_path: Path, tiny_encoder: Path
) -> None:
    plan = _plan(tmp_path, **{LAYERS[1]: "int4-g64", "decoder.layer.0.query": "int4-g64"})
    done = bitalloc("apply", plan, "--model", tiny_encoder)
    _refused(done, tmp_path, "/decoder.layer.0.query: unknown layer 'decoder.layer.0.query'")
    assert done.err.count("\n") == 1


def test_a_place_that_cannot_be_written_ends_with_2(
    bitalloc: Run, tmp_path: Path, tiny_encoder: Path
) -> None:
    plan = _plan(tmp_path, **{LAYERS[1]: "int4-g64"})
    done = bitalloc("apply", plan, "--model", tiny_encoder, "--out", "plan.json/model.onnx")
    _refused(done, tmp_path, "--out: cannot write 'plan.json/model.onnx'")


@pytest.mark.parametrize("backend", ["torchao", "onnx"])
def test_a_backend_that_writes_no_files_is_refused(bitalloc: Run, tmp_path: Path, backend: str) -> None:
    done = bitalloc("apply", _plan(tmp_path, fc="int4-g64"), "--backend", backend)
    _refused(done, tmp_path, f"--backend: unknown file backend '{backend}'; ")
    assert "known: 'onnxruntime'" in done.err


def _llama(folder: Path) -> Path:
    from tests.quantize.models import tiny_llama

    tiny_llama().save_pretrained(folder)
    return folder


LLAMA = {"model.layers.0.mlp.down_proj": "int4-g32", "model.layers.1.self_attn.o_proj": "int8-g32"}


@pytest.mark.parametrize(("backend", "name"), [("gguf", "model.gguf"), ("compressed-tensors", "packed")])
def test_a_checkpoint_becomes_a_file_for_a_server_and_is_replaced_only_by_force(
    bitalloc: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, backend: str, name: str
) -> None:
    model, plan = _llama(tmp_path_factory.mktemp("llama")), _plan(tmp_path, **LLAMA)
    arguments = ["apply", plan, "--backend", backend, "--model", model]
    done = bitalloc(*arguments, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    weights = tmp_path / name / "model.safetensors" if backend == "compressed-tensors" else tmp_path / name
    assert result["path"] == name
    assert result["bytes"] == weights.stat().st_size < result["checkpoint_bytes"]
    before = weights.read_bytes()
    again = bitalloc(*arguments, "--rounding", "scale_search")
    assert (again.code, again.out) == (2, "")
    assert f"--out: '{name}' exists; choose another name, or replace it with --force\n" in again.err
    assert weights.read_bytes() == before
    forced = bitalloc(*arguments, "--rounding", "scale_search", "--force")
    smaller = f"{result['checkpoint_bytes'] / len(before):.1f}"
    assert forced.out == f"{name}: {len(before):,} bytes, {smaller} times smaller than checkpoint\n"
    assert weights.read_bytes() != before  # other codes, as many bytes


def test_errors_are_made_up_for_with_the_moments_of_a_file(
    bitalloc: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model, plan = _llama(tmp_path_factory.mktemp("llama")), _plan(tmp_path, **LLAMA)
    arguments = ["apply", plan, "--backend", "gguf", "--model", model, "--rounding", "gptq"]
    _refused(
        bitalloc(*arguments), tmp_path, "/moments/model.layers.0.mlp.down_proj: gptq needs the second moment"
    )
    inputs = {
        layer: np.random.default_rng(0).normal(size=(99, row))
        for layer, row in zip(LLAMA, (96, 64), strict=True)
    }
    seconds = {layer: values.T @ values for layer, values in inputs.items()}
    write_moments(tmp_path / "moments.safetensors", seconds)
    assert bitalloc(*arguments, "--moments", "moments.safetensors").code == 0
    apply(model, LLAMA, "gguf", path=tmp_path / "python.gguf", rounding=Rounding("gptq"), moments=seconds)
    assert Path("model.gguf").read_bytes() == Path("python.gguf").read_bytes()


def test_a_model_of_other_sizes_than_the_profiled_one_is_refused(
    bitalloc: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("llama")
    profile = tiny(layers=[{"name": name, "parameters": 7} for name in LLAMA])
    (folder / "profile.json").write_text(json.dumps(profile))
    arguments = ["--backend", "gguf", "--model", _llama(folder), "--profile", folder / "profile.json"]
    words = "/assignment/model.layers.0.mlp.down_proj: the profile has 7 weights, the model (64, 96)"
    _refused(bitalloc("apply", _plan(tmp_path, **LLAMA), *arguments), tmp_path, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounding", "gptqq"], "/rounding/method: unknown rounding 'gptqq'; did you mean 'gptq'"),
        (["--backend", "gguf"], "--model: say which model with --model FOLDER"),
        ([], "--model: say which model with --model FOLDER"),
        (["--out", "plan.json"], "--out: 'plan.json' exists; choose another name"),
        (["--model", "m", "--moments", "plan.json"], "/moments: 'plan.json': is no safetensors file"),
    ],
)
def test_options_that_cannot_be_are_refused(
    bitalloc: Run, tmp_path: Path, arguments: list[str], words: str
) -> None:
    _refused(bitalloc("apply", _plan(tmp_path, fc="int4-g64"), *arguments), tmp_path, words)


def test_a_folder_that_is_no_model_is_refused(bitalloc: Run, tmp_path: Path) -> None:
    done = bitalloc("apply", _plan(tmp_path, fc="int4-g64"), "--model", tmp_path / "nowhere")
    _refused(done, tmp_path, "/model: expected a folder with config.json, weights and tokenizer")


@pytest.mark.parametrize("package", ["torch", "onnx"])
def test_without_torch_or_onnx_it_says_what_to_install(
    bitalloc: Run, tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = bitalloc("apply", _plan(tmp_path, fc="int4-g64"), "--model", tiny_encoder)
    _refused(done, tmp_path, f"{package} is needed here and cannot be imported")
    assert "pip install 'bitalloc[onnx]'" in done.err


def test_an_allocation_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = solve(tiny(), budgets={"effective_bits": 6.5})
    (tmp_path / "plan.json").write_text(plan.model_dump_json(indent=2))
    assert read_allocation(tmp_path / "plan.json") == plan


def test_a_plan_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot read the plan '.*/missing.json': No such file"):
        read_allocation(tmp_path / "missing.json")
    with pytest.raises(InvalidInputError, match=f"cannot read the plan '{tmp_path}': Is a directory"):
        read_allocation(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"plan: best"])
def test_a_plan_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(
        InvalidInputError,
        match=r"^/: expected an allocation or a table of layer and format, as JSON; .* is no JSON",
    ):
        read_allocation(tmp_path / "plan.json")


def test_a_profile_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(tiny()))
    with pytest.raises(InvalidInputError, match="/status: Field required") as refusal:
        read_allocation(tmp_path / "plan.json")
    pointers = {fault.pointer for fault in refusal.value.faults}
    assert {"/status", "/solver", "/layers", "/formats"} <= pointers


def test_a_plan_of_an_unknown_status_is_refused(tmp_path: Path) -> None:
    document = json.loads(solve(tiny()).model_dump_json()) | {"status": "best"}
    (tmp_path / "plan.json").write_text(json.dumps(document))
    with pytest.raises(InvalidInputError, match=r"^/status: Input should be 'optimal', 'feasible'"):
        read_allocation(tmp_path / "plan.json")


def test_a_missing_plan_ends_the_command_with_2(bitalloc: Run, tmp_path: Path) -> None:
    done = bitalloc("apply", "missing.json")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: /: cannot read the plan 'missing.json': No such file or directory\n"
    assert list(tmp_path.iterdir()) == []


def test_the_plan_of_a_solve_is_an_allocation(bitalloc: Run, tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text(json.dumps(tiny()))
    assert bitalloc("solve", "profile.json", "--out", "plan.json").code == 0
    assert isinstance(read_allocation(Path("plan.json")), Allocation)
