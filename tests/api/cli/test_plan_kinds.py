"""`export`, `lint` and `apply` take the same kinds of plan, and files that people have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from allocator import solve
from api.cli.plans import read_plan
from quantize.exports import EXPORTS, export
from tests.api.cli.test_apply import NOT_COMPARED
from tests.api.conftest import Run
from tests.api.helpers import tiny
from tests.quantize.imports.checkpoints import MIXTURE, checkpoint

Q = "model.layers.0.self_attn.q_proj"
O = "model.layers.0.self_attn.o_proj"  # noqa: E741 - as the models name it
PLAN = {Q: "int8-g32", O: "int4-g32"}
LLAMA = {Q: (32, 32), O: (32, 32), "lm_head": (64, 32)}


def _kinds(folder: Path) -> dict[str, Path]:
    profile = tiny(
        layers=[{"name": name} for name in PLAN],
        formats={name: {"weight_bits": 4} for name in PLAN.values()},
        costs={"kl": {"values": [[0.0, 0.0]] * 2}},
    )
    profile["resources"] = {}
    texts = {
        "allocation": solve(profile, pin=PLAN).model_dump_json(),
        "table": json.dumps(PLAN),
        "cut": json.dumps({"assignment": PLAN}),
    }
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(text)
    return {name: folder / f"{name}.json" for name in texts}


@pytest.mark.parametrize("kind", ["allocation", "table", "cut"])
def test_every_command_takes_every_kind(bitalloc: Run, tmp_path: Path, kind: str) -> None:
    path = _kinds(tmp_path)[kind]
    model = checkpoint(tmp_path / "m", LLAMA)
    assert bitalloc("lint", path, "-r", "torchao", "--model", model).code == 0
    assert bitalloc("export", path, "--to", "torchao", "--model", model).code == 0
    done = bitalloc("apply", path, "--backend", "compressed-tensors", "--model", model, "--out", "packed")
    assert (done.code, done.err) == (0, NOT_COMPARED)
    assert Path("packed/config.json").exists()


@pytest.mark.parametrize(
    "target", [name for name in EXPORTS if name not in {"llama.cpp", "onnxruntime", "nncf"}]
)
def test_a_configuration_of_another_tool_is_a_plan(tmp_path: Path, target: str) -> None:
    done = export({Q: "int8", O: "int8", "lm_head": "fp16"}, target)
    for name, text in done.files.items():
        (tmp_path / name).write_text(text)
    plan = read_plan(tmp_path, written_for=target, layers=[Q, O, "lm_head"])
    assert isinstance(plan, dict)
    assert set(plan) == {Q, O}


def test_a_configuration_is_exported_for_another_tool(bitalloc: Run, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", LLAMA)
    (tmp_path / "recipe.txt").write_text("# mine\nattn_q=Q8_0 attn_output=q4_0\n")
    done = bitalloc(
        "export", "recipe.txt", "--format", "llama.cpp", "--to", "torchao", "--model", model, "--strict"
    )
    assert (done.code, done.err) == (0, "")
    layers = json.loads(Path("export/torchao_config.json").read_text())["_data"]["fqn_to_config"]
    assert layers[Q]["_data"]["weight_dtype"]["_data"] == "int8"
    assert layers["lm_head"] is None


@pytest.mark.parametrize("name", ["q8_0", "Q4_K", "iq4_ks", "iq3_k_r4", "MXFP4", "TQ1_0"])
def test_types_of_llama_cpp_pass_in_plans_exports_and_lint(bitalloc: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({Q: name}))
    model = checkpoint(tmp_path / "m", {Q: (4, 256)})
    done = bitalloc("lint", "plan.json", "-r", "llama.cpp", "--model", model)
    assert done.code == 0
    assert bitalloc("export", "plan.json", "--to", "llama.cpp", "--model", model, "--strict").code == 0
    text = Path("export/tensor-types.txt").read_text()
    assert text == rf"^blk\.0\.attn_q\.weight$={name.lower()}" + "\n"
    again = bitalloc("lint", "export", "--format", "llama.cpp", "-r", "llama.cpp", "--model", model)
    assert (again.code, again.out) == (done.code, done.out)
    assert ("ik_llama.cpp" in done.out) == name.startswith(("iq4_ks", "iq3_k"))


@pytest.mark.parametrize("command", ["lint", "export", "apply"])
def test_an_unknown_format_is_one_message(bitalloc: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({f"l.{index}": "q9" for index in range(40)}))
    options = {
        "lint": ["-r", "vllm"],
        "export": ["--to", "mlx"],
        "apply": ["--backend", "gguf", "--model", "."],
    }
    done = bitalloc(command, "plan.json", *options[command])
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: /assignment/l.0: unknown format 'q9'")
    assert "(and of 39 more layers)" in done.err


def test_types_of_llama_cpp_are_refused_where_nothing_rounds_to_them(bitalloc: Run, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({Q: "q4_k"}))
    model = checkpoint(tmp_path / "m", {Q: (4, 256)})
    done = bitalloc(
        "apply", "plan.json", "--backend", "compressed-tensors", "--model", model, "--out", "packed"
    )
    assert (done.code, done.out) == (2, "")
    assert "q4_k" in done.err
    assert not Path("packed").exists()


def test_a_recipe_with_comments_is_linted(bitalloc: Run, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", LLAMA)
    recipe = (
        "## Head\n^output\\.weight$=q8_0\n\n# attention # and more\nattn_q=q4_0,attn_output=iq4_nl # last\n"
    )
    (tmp_path / "glm.recipe").write_text(recipe)
    done = bitalloc("lint", "glm.recipe", "--format", "llama.cpp", "-r", "llama.cpp", "--model", model)
    assert done.code == 0
    assert done.out.startswith(
        "warning [reading] comments in lines 1, 4, 5, which llama-quantize takes for patterns"
    )
    assert done.out.endswith("llama.cpp: 0 errors, 1 warnings\n")


def test_rows_that_end_a_quantization_are_an_error(bitalloc: Run, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", {Q: (4, 48), O: (4, 288)})
    (tmp_path / "plan.json").write_text(json.dumps({Q: "int8-g32", O: "q4_k"}))
    done = bitalloc("lint", "plan.json", "-r", "llama.cpp", "--model", model)
    first, second, last = done.out.splitlines()
    assert done.code == 1
    assert first.startswith(
        f"error [group-sizes] {Q}: rows of 48 are not whole blocks of 32, and q8_0 has no"
    )
    assert second.startswith(
        f"warning [group-sizes] {O}: rows of 288 are not whole blocks of 256: the layer becomes q5_0"
    )
    assert last == "llama.cpp: 1 errors, 1 warnings"


def test_a_mixture_is_exported_whole(bitalloc: Run, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", MIXTURE)
    (tmp_path / "plan.json").write_text(json.dumps({Q: "q8_0"}))
    assert bitalloc("export", "plan.json", "--to", "llama.cpp", "--model", model, "--strict").code == 0
    text = Path("export/tensor-types.txt").read_text()
    assert [line for line in text.splitlines() if "exps" in line] == [
        rf"^blk\.0\.ffn_{part}_exps\.weight$=f16" for part in ("gate", "up", "down")
    ]


def test_what_an_import_leaves_out_is_said(bitalloc: Run, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", LLAMA)
    scheme = {"version": 1, "scheme": {"bits": 4}, "layer_scores": {Q: [9, 1], "gone": [9, 1]}}
    (tmp_path / "w4.json").write_text(json.dumps(scheme))
    done = bitalloc("import", "w4.json", "--from", "auto-round", "--model", model)
    assert done.code == 0
    assert done.err.splitlines() == [
        "note: not in the checkpoint, so without a number of weights: gone",
        "note: not in the checkpoint: gone; their weights, if it has them under other names, are counted a second time "
        "among what lies outside",
    ]
    (tmp_path / "names.json").write_text(json.dumps({O: "gone"}))
    named = bitalloc(
        "import", "w4.json", "--from", "auto-round", "--model", model, "--names", "names.json", "--force"
    )
    assert (named.code, named.err) == (0, "")


@pytest.mark.parametrize(
    ("written_for", "runtime"),
    [("plan", "torchao"), ("llama.cpp", "llama.cpp"), ("compressed-tensors", "transformers")],
)
def test_apply_takes_what_export_and_lint_take(
    bitalloc: Run, tmp_path: Path, written_for: str, runtime: str
) -> None:
    model = checkpoint(tmp_path / "m", LLAMA)
    files = {"plan": json.dumps({Q: "int8-g32", O: "int8-g32"})}
    if written_for == "llama.cpp":
        files = {"plan.txt": "attn_q=q8_0\nattn_output=q8_0\n"}
    if written_for == "compressed-tensors":
        files = dict(export({Q: "int8-g32", O: "int8-g32", "lm_head": "fp16"}, written_for).files)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (name,) = files
    kind = ("--format", written_for, "--model", model)
    assert bitalloc("lint", name, *kind, "-r", runtime).code == 0
    assert bitalloc("export", name, *kind, "--to", "torchao").code == 0
    done = bitalloc("apply", name, *kind, "--backend", "compressed-tensors", "--out", "packed")
    assert done.code == 0, done.err
    groups = json.loads(Path("packed/config.json").read_text())["quantization_config"]["config_groups"]
    (only,) = groups.values()
    assert (only["weights"]["num_bits"], only["weights"]["group_size"]) == (8, 32)
    assert "lm_head" not in only["targets"]


def test_verify_takes_a_table_of_layer_and_format(bitalloc: Run, profile: Path, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(json.dumps({"up": "int4-g64", "down": "int4-g64"}))
    done = bitalloc("verify", "table.json", "--profile", profile, "-o", "kl")
    assert done.code == 2
    assert done.err.startswith("error: --model: say which model with --model FOLDER")  # the plan was read
