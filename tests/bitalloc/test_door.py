"""The front door: every name, loaded only when asked for, and hidden by nothing."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bitalloc

ROOT = Path(__file__).parents[2]
SOURCE = (ROOT / "bitalloc" / "__init__.py").read_text("utf-8")
PROMISED = (
    *("solve", "Profile", "frontier", "explain", "Client", "AsyncClient", "profile_model"),
    *("apply", "refine", "verify", "export", "lint"),
)


def python(code: str, folder: Path = ROOT) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_name_is_there_for_programs_and_for_type_checkers() -> None:
    assert set(PROMISED) <= set(bitalloc.__all__) <= set(dir(bitalloc))
    assert len(set(bitalloc.__all__)) == len(bitalloc.__all__)
    (block,) = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)][:1]
    told = {
        alias.asname: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == bitalloc._HOME
    for name in bitalloc.__all__:
        assert getattr(bitalloc, name) is not None


def test_what_a_room_names_as_its_own_is_at_the_door_under_the_same_name() -> None:
    import allocator
    import quantize
    import sensitivity

    inner = {
        "SOLVERS",
        "solve_request",
        "explain_request",
        "sweep",
        "METHODS",
        "NEAREST",
        "Quantized",
        "quantize",
    }
    inner |= {"restored", "rounded", "Estimator"}
    parts = {"Baseline", "Conflict", "LayerStability", "Move", "MpsModel", "Option", "Reach", "Reason"}
    parts |= {"SolverReport", "Usage", "Note", "Outside", "ModelIdentity"}  # of answers; nobody makes one
    for room in (allocator, quantize, sensitivity):
        assert set(room.__all__) - set(bitalloc.__all__) <= inner | parts, room.__name__


def test_an_unknown_name_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(AttributeError, match=r"'bitalloc' has no attribute 'slove'; did you mean 'solve'"):
        _ = bitalloc.slove  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="slove"):
        exec("from bitalloc import slove")


def test_the_door_is_quick_and_loads_what_is_asked_for_only() -> None:
    code = (
        "import sys, time; import bitalloc; from time import process_time; print(process_time()); "
        "print([n for n in ('torch', 'fastapi', 'numpy', 'allocator') if n in sys.modules]); "
        "bitalloc.solve, bitalloc.Client, bitalloc.export, bitalloc.lint, bitalloc.refine, bitalloc.apply; "
        "print([n for n in ('torch', 'fastapi', 'api') if n in sys.modules])"
    )
    seconds, at_first, later = python(code).splitlines()
    assert float(seconds) < 0.4  # of processor time, the interpreter's own start included
    assert (at_first, later) == ("[]", "[]")


def test_a_package_of_the_same_name_is_said_and_the_client_needs_none(tmp_path: Path) -> None:
    (tmp_path / "quantize.py").write_text("raise SystemExit('somebody else ran')")
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "__init__.py").write_text("raise SystemExit('somebody else ran')")
    code = "import bitalloc; bitalloc.Client, bitalloc.solve, bitalloc.plot_plan, bitalloc.running_server"
    python(f"import sys; sys.path.insert(0, '')\n{code}", tmp_path)
    refused = f"{code}\ntry:\n    bitalloc.apply\nexcept ImportError as error:\n    print(error)"
    said = python(refused, tmp_path)
    assert said.startswith(
        f"expected bitalloc's own package 'quantize', got {tmp_path / 'quantize.py'}, which hides it"
    )


def test_the_module_is_the_command_beside_packages_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "__init__.py").write_text("raise SystemExit('somebody else ran')")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bitalloc", "solve", str(ROOT / "examples" / "minilm.json"), "--json"]
    command += ["-o", "fisher", "-b", "effective_bits=4"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["status"] == "optimal", done.stderr
