"""The command solve, from a shell and in this process: answers and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from allocator import Allocation, export_mps, solve
from tests.api.bad_input import Case, params
from tests.api.cli.profile_files import written
from tests.api.conftest import Run
from tests.api.helpers import comparable, random_profile, tiny

COMMANDS = ("demo", "profile", "solve", "apply", "serve")


def _shell(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "api.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def _options(fields: dict[str, Any]) -> list[str]:
    """The fields of a request as they are typed."""
    typed: list[str] = []
    for name, value in fields.items():
        if name == "budgets":
            typed += [f"--budget={key}={amount}" for key, amount in value.items()]
        elif name == "pin":
            typed += [f"--pin={key}={chosen}" for key, chosen in value.items()]
        elif name in {"allow", "forbid"}:
            typed += [f"--{name}={key}={','.join(formats)}" for key, formats in value.items()]
        elif name == "limits":
            typed += [f"--limit={json.dumps(limit)}" for limit in value]
        elif name == "objective" and isinstance(value, list):
            typed += [f"--objective={table}" for table in value]
        else:
            option = {"time_limit_s": "time-limit"}.get(name, name)
            typed.append(f"--{option}={value}")
    return typed


def test_the_installed_command_tells_its_version() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("bitalloc"), "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"bitalloc {metadata.version('bitalloc')}\n"


def test_a_plan_ends_with_0(profile: Path) -> None:
    done = _shell("solve", profile, "-b", "effective_bits=6.5")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("optimal  Proved: no plan within the budgets is better.\n")


def test_no_plan_ends_with_1_and_says_what_plans_reach(profile: Path) -> None:
    done = _shell("solve", profile, "-b", "effective_bits=3")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("infeasible  Proved: no plan keeps every budget")
    assert "effective_bits: asked for 3 bit, plans reach 4.25 to 8.25 bit\n" in done.stdout


def test_in_a_pipe_a_sentence_is_a_line(profile: Path) -> None:
    done = _shell("solve", profile, "-b", "effective_bits=3")
    assert len(done.stdout.splitlines()) == 2


def test_unusable_input_ends_with_2_and_a_message_without_a_traceback(profile: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    done = _shell("solve", profile, "-b", "wieght_bytes=1", "--pin", "*=int4-g64", "--out", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: /budgets/wieght_bytes: unknown budget 'wieght_bytes'; did you mean")
    assert not out.exists()


def test_the_version_is_printed(bitalloc: Run) -> None:
    done = bitalloc("--version")
    assert (done.code, done.out) == (0, f"bitalloc {metadata.version('bitalloc')}\n")


def test_without_a_command_the_help_is_shown(bitalloc: Run) -> None:
    done = bitalloc()
    assert done.code == 2
    for command in COMMANDS:
        assert command in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(bitalloc: Run, command: str) -> None:
    done = bitalloc(command, "--help")
    assert done.code == 0
    assert f"Example: bitalloc {command} " in done.out


def test_the_help_says_where_to_start(bitalloc: Run) -> None:
    done = bitalloc("--help")
    assert done.code == 0
    assert "Start with bitalloc demo." in done.out
    for command in COMMANDS:
        assert command in done.out


def test_the_example_in_the_help_of_solve_can_be_typed(bitalloc: Run, tmp_path: Path) -> None:
    document = tiny()
    document["costs"] = {"embedding_distance": document["costs"]["kl"]}
    document["formats"]["int2-g64"] = {"weight_bits": 2}
    document["costs"]["embedding_distance"]["values"] = [[0.1, 0.01, 0.5]] * 2
    document["resources"]["weight_bytes"]["values"] = [[2176, 4224, 1152]] * 2
    document["layers"][0]["name"] = "block.query"
    path = written(tmp_path, document)
    done = bitalloc(
        "solve",
        path,
        "-o",
        "embedding_distance",
        "-b",
        "effective_bits=6",
        "--pin",
        "*.query=int8-g64",
        "--json",
    )
    assert done.code == 0
    assert json.loads(done.out)["assignment"] == {"block.query": "int8-g64", "down": "int2-g64"}


@pytest.mark.parametrize("case", params("cli"))
def test_the_command_points_at_what_it_cannot_use_and_writes_nothing(
    bitalloc: Run, tmp_path: Path, case: Case
) -> None:
    path = written(tmp_path, case.profile)
    done = bitalloc("solve", path, *_options(case.fields), "--out", "plan.json", "--json")
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"error: {case.pointer or '/'}: ")
    assert case.words in line
    assert list(tmp_path.iterdir()) == [path]


def test_json_output_is_the_written_file_and_the_librarys_answer(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("solve", profile, "-b", "effective_bits=6.5", "--json", "--out", "new/plan.json")
    assert (done.code, done.err) == (0, "")
    assert done.out == Path("new/plan.json").read_text()
    assert comparable(done.out) == comparable(solve(tiny(), budgets={"effective_bits": 6.5}))


def test_every_option_reaches_the_solver(bitalloc: Run, tmp_path: Path) -> None:
    document = random_profile(12)
    fields = {
        "objective": ["fisher", "kl"],
        "caution": 1.5,
        "limits": [{"name": "few", "layers": ["layer.1*"], "formats": ["int8-g64"], "max": 2}],
        "budgets": {"effective_bits": 6.0, "latency": "2 ms", "kl": 100.0},
        "pin": {"layer.1": "int8-g64"},
        "allow": {"layer.1*": ["int4-g64", "int8-g64"]},
        "forbid": {"layer.2": ["int2-g64"]},
        "solver": "greedy",
        "gap": 0.25,
        "time_limit_s": 9.0,
    }
    done = bitalloc("solve", written(tmp_path, document), *_options(fields), "--json")
    assert done.code == 0
    assert comparable(done.out) == comparable(solve(document, **fields))


def test_an_infeasible_answer_is_written_too(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("solve", profile, "-b", "weight_bytes=1 KiB", "--json", "--out", "plan.json")
    assert (done.code, done.err) == (1, "")
    assert done.out == Path("plan.json").read_text()
    answer = Allocation.model_validate_json(done.out)
    assert answer.status == "infeasible"
    assert answer.achievable["weight_bytes"].least == 4352


def test_a_baseline_that_finds_no_plan_ends_with_1_and_says_what_to_do(bitalloc: Run, tmp_path: Path) -> None:
    # Mixed plans keep both budgets; a uniform one breaks the bytes or the divergence.
    path = written(tmp_path, tiny())
    limits = ["-b", "weight_bytes=6400", "-b", "kl=0.0125"]
    assert bitalloc("solve", path, *limits).code == 0
    done = bitalloc("solve", path, *limits, "--solver", "uniform")
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("no_solution  The solver stopped without a plan and without a proof; ")
    assert "solver='exact'" in done.out


def test_a_missing_solver_package_ends_with_2_and_what_to_install(
    bitalloc: Run, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ortools", None)
    done = bitalloc("solve", profile, "--solver", "cpsat")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ortools is needed here and cannot be imported")
    assert done.err.endswith("install it with: pip install 'bitalloc[solvers]'\n")


def test_a_place_that_cannot_be_written_ends_with_2(bitalloc: Run, profile: Path, tmp_path: Path) -> None:
    done = bitalloc("solve", profile, "--out", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: --out: cannot write '{tmp_path}': Is a directory; name a file\n"


def test_the_command_imports_neither_torch_nor_the_service() -> None:
    code = "import api.cli, sys; print([m for m in ('fastapi', 'uvicorn', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_model_is_written_for_any_solver(bitalloc: Run, profile: Path) -> None:
    done = bitalloc("solve", profile, "-b", "weight_bytes=6.5 kB", "--mps", "models/plan.mps")
    assert done.code == 0
    assert Path("models/plan.mps").read_text() == export_mps(tiny(), budgets={"weight_bytes": "6.5 kB"}).text
