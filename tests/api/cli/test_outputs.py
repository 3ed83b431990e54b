"""No command replaces a file without `--force`, and what cannot be written is found before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from allocator import InvalidInputError
from api.cli import app
from api.cli.parsing import require_outputs, require_writable
from quantize.exports import EXPORTS, export
from quantize.exports.target import ExportTarget
from tests.api.conftest import Run

#: What writes, with inputs that do not exist: whoever looks at the output first never gets to them.
WRITERS = {
    "demo --out": ("demo", "--out", "{folder}"),
    "profile --out": ("profile", "--model", "no-model", "--out", "{file}"),
    "solve --out": ("solve", "no-profile.json", "--out", "{file}"),
    "solve --mps": ("solve", "no-profile.json", "--mps", "{file}"),
    "frontier --out": ("frontier", "no-profile.json", "--out", "{file}"),
    "frontier --plot": ("frontier", "no-profile.json", "--plot", "{file}"),
    "refine --out": ("refine", "no-profile.json", "--model", "no-model", "--out", "{file}"),
    "verify --out": ("verify", "no-plan.json", "--profile", "p.json", "-o", "kl", "--out", "{file}"),
    "apply --out": ("apply", "no-plan.json", "--model", "no-model", "--out", "{file}"),
    "export --out": ("export", "no-plan.json", "--to", "torchao", "--out", "{folder}"),
    "import --out": ("import", "no-scores.csv", "--from", "csv", "--out", "{file}"),
}
#: Files in a folder that is written to.
INSIDE = {"demo": "report.json", "export": "torchao_config.json"}
WRITTEN = {"out", "mps", "plot"}


def _arguments(writer: str, output: Path) -> list[str]:
    return [part.format(file=output, folder=output.parent) for part in WRITERS[writer]]


def _output(writer: str, folder: Path) -> Path:
    command = writer.split()[0]
    return folder / INSIDE.get(command, "front.png" if writer.endswith("--plot") else "result.md")


def test_every_option_that_names_a_file_to_write_is_tried_here_and_has_force_beside_it() -> None:
    found = set()
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        options = {parameter.name for parameter in command.params}
        found |= {f"{name} --{option}" for option in options & WRITTEN}
        assert not options & WRITTEN or "force" in options, name
    assert found == set(WRITERS)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_exists_is_kept(bitalloc: Run, tmp_path: Path, writer: str) -> None:
    output = _output(writer, tmp_path / "results")
    output.parent.mkdir()
    output.write_text("somebody's work")
    done = bitalloc(*_arguments(writer, output))
    option = writer.split()[1]
    assert (done.code, done.out) == (2, "")
    words = "exists; choose another name, or replace it with --force"
    assert done.err == f"error: {option}: '{output}' {words}\n"
    assert [path.read_text() for path in output.parent.iterdir()] == ["somebody's work"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_place_that_cannot_be_written_is_found_before_the_work(
    bitalloc: Run, tmp_path: Path, writer: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    output = _output(writer, tmp_path / "file" / "below")
    done = bitalloc(*_arguments(writer, output), "--force")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {writer.split()[1]}: cannot write '{output.parent.parent}/")
    assert done.err.endswith("': Not a directory\n")


def test_nothing_is_made_where_the_input_is_wrong(bitalloc: Run, tmp_path: Path) -> None:
    done = bitalloc("solve", "no-profile.json", "--out", "a/b/plan.json", "--mps", "c/model.mps")
    assert done.code == 2
    assert "no-profile.json" in done.err
    assert list(tmp_path.iterdir()) == []


def test_force_replaces(bitalloc: Run, profile: Path, tmp_path: Path) -> None:
    for name in ("plan.json", "model.mps", "front.json", "front.svg"):
        (tmp_path / name).write_text("old")
    assert bitalloc("solve", profile, "--out", "plan.json", "--mps", "model.mps", "--force").code == 0
    assert bitalloc("frontier", profile, "--out", "front.json", "--plot", "front.svg", "--force").code == 0
    for name in ("plan.json", "model.mps", "front.json", "front.svg"):
        assert (tmp_path / name).read_text() != "old"


def test_a_link_that_leads_nowhere_is_something_too(bitalloc: Run, profile: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").symlink_to("gone.json")
    done = bitalloc("solve", profile, "--out", "plan.json")
    assert (done.code, done.out) == (2, "")
    assert "'plan.json' exists" in done.err


def test_a_folder_is_never_replaced_by_a_file(bitalloc: Run, profile: Path, tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    done = bitalloc("solve", profile, "--out", "plans", "--force")
    assert (done.code, done.err) == (2, "error: --out: cannot write 'plans': Is a directory; name a file\n")


def test_what_is_no_plain_file_may_be_written_to_again_and_again(bitalloc: Run, profile: Path) -> None:
    for _ in range(2):
        assert bitalloc("solve", profile, "--out", "/dev/null", "--mps", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


def test_two_results_need_two_names(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("solve", profile, "--out", "a.json", "--mps", "./a.json")
    assert done.code == 2
    assert done.err == "error: --mps: 'a.json' is what --out writes; name another file\n"
    done = bitalloc("refine", profile, "--out", "a.json", "--journal", "a.json", "--model", "m")
    assert done.err == "error: --out: 'a.json' is what --journal writes; name another file\n"


def test_a_name_that_is_too_long_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^--out: cannot write '.*': File name too long$"):
        require_outputs([("--out", tmp_path / ("a" * 300))], force=False)


def test_a_journal_that_exists_is_gone_on_from(tmp_path: Path) -> None:
    (tmp_path / "run.journal").write_text("a run")
    require_outputs([("--out", tmp_path / "new.json")], force=False, journal=tmp_path / "run.journal")
    with pytest.raises(InvalidInputError, match=r"^--journal: cannot write '.*': Not a directory$"):
        require_outputs([], force=False, journal=tmp_path / "run.journal" / "below")


def test_looking_leaves_no_trace(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b" / "plan.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["front", "front.jpeg", "front.png.txt"])
def test_the_ending_of_a_picture_is_checked_before_the_work(bitalloc: Run, name: str) -> None:
    done = bitalloc("frontier", "no-profile.json", "--plot", name)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: --plot: expected a name that ends in .png, .svg, .pdf, got '{name}'\n"


@pytest.mark.parametrize("target", EXPORTS)
def test_a_target_says_which_files_it_writes(target: str) -> None:
    of: ExportTarget = EXPORTS.find(target)
    layer = of.layer_name("blk.0.attn_q.weight") if target == "llama.cpp" else "model.layers.0.q_proj"
    names = {layer: "MatMul_0"} if target == "onnxruntime" else None
    formats = ("int8", "int4-g32", "uint4-g64", "int4", "uint4-g128")
    fmt = next(name for name in formats if _can(layer, name, target, names))
    assert set(export({layer: fmt}, target, names=names).files) == set(of.files)


def _can(layer: str, fmt: str, target: str, names: dict[str, str] | None) -> bool:
    try:
        export({layer: fmt}, target, names=names)
    except InvalidInputError:
        return False
    return True
