"""What is built works where it is installed: in a project that has packages and files with the names of ours.

The project has its own ``api/``, ``quantize.py`` and ``worker.py``, an ``allocator.py`` in a folder, and beside its
programs a file with the name of a module that Python's own child processes import.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.api.cli.conftest import tiny_encoder

__all__ = ["tiny_encoder"]

ROOT = Path(__file__).parents[1]
RELEASE: dict[str, Any] = runpy.run_path(str(ROOT / ".ci" / "release.py"))
NOT_OURS = "raise SystemExit('somebody else ran: ' + __file__)\n"
PROFILE = {
    "formats": {"int4-g64": {"weight_bits": 4}, "int8-g64": {"weight_bits": 8}},
    "layers": [{"name": "up", "parameters": 4096}, {"name": "down", "parameters": 4096}],
    "costs": {"kl": {"values": [[0.031, 0.0004], [0.012, 0.0002]]}},
    "resources": {"weight_bytes": {"values": [[2176, 4224], [2176, 4224]], "unit": "byte"}},
}
CLIENT = """
import json, sys
import bitalloc
from bitalloc import Client, solve

with Client(sys.argv[1]) as client:
    plan = client.allocate("profile.json", budgets={"effective_bits": 6.5})
    job = client.submit("profile.json", budgets={"effective_bits": 5})
    *_, last = client.events(job.id)
here = solve("profile.json", budgets={"effective_bits": 6.5})
said = {"file": bitalloc.__file__, "state": last.ended.state}
print(json.dumps(said | {"plan": plan.assignment, "here": here.assignment}))
"""
MODEL = """
import torch
from torch import nn


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def load():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    return model, [(torch.randn(8, 16), torch.randint(0, 4, (8,)))], loss
"""
MEASURE = """
from bitalloc import Recipe, profile_recipe

if __name__ == "__main__":
    found = [
        profile_recipe(Recipe("model:load"), ["int4", "int8"], ["loss"], executor=executor, workers=1).digest()
        for executor in ("serial", "process")
    ]
    print(found[0] == found[1])
"""


@dataclass(frozen=True)
class Installed:
    """A fresh environment with the wheel, and somebody's project."""

    binaries: Path
    project: Path
    environment: dict[str, str]

    def run(self, *command: object) -> str:
        """Run a program of the environment in the project, and give what it prints."""
        program, *arguments = map(str, command)
        done = subprocess.run(
            [str(self.binaries / program), *arguments],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    wheel, _ = RELEASE["build"](folder / "dist", index=False)
    python = folder / "venv" / "bin" / "python"
    # What the wheel requires is borrowed from this environment; the packages themselves are not in it.
    borrowed = [path for path in sys.path if "site-packages" in path]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BITALLOC_"))
    }
    environment |= {"PYTHONPATH": os.pathsep.join(borrowed), "OMP_NUM_THREADS": "1"}
    RELEASE["run"]([sys.executable, "-m", "venv", "--system-site-packages", str(folder / "venv")])
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    subprocess.run([str(python), *install, str(wheel)], env=environment, check=True)
    return Installed(
        python.parent, _project(folder / "project"), environment | {"BITALLOC_DATA_DIR": str(folder)}
    )


def _project(folder: Path) -> Path:
    for name in ("api/__init__.py", "tools/allocator.py", "quantize.py", "worker.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(NOT_OURS)
    (folder / "profile.json").write_text(json.dumps(PROFILE))
    (folder / "client.py").write_text(CLIENT)
    (folder / "programs").mkdir()
    (folder / "programs" / "model.py").write_text(MODEL)
    (folder / "programs" / "measure.py").write_text(MEASURE)
    return folder


@pytest.fixture(scope="module")
def service(installed: Installed) -> Iterator[str]:
    command = [str(installed.binaries / "bitalloc"), "serve", "--port", "0"]
    running = subprocess.Popen(
        command, cwd=installed.project, env=installed.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        match = re.search(r"http://\S+", running.stdout.readline())
        assert match is not None
        yield match[0]
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)


@pytest.mark.long
@pytest.mark.parametrize("program", [("bitalloc",), ("python", "-m", "bitalloc")], ids=" ".join)
def test_the_command_solves(installed: Installed, program: tuple[str, ...]) -> None:
    said = installed.run(*program, "solve", "profile.json", "-b", "effective_bits=6.5", "--json")
    assert json.loads(said)["assignment"] == {"up": "int8-g64", "down": "int4-g64"}


@pytest.mark.long
def test_the_service_plans_for_the_client_and_does_its_job(installed: Installed, service: str) -> None:
    said = json.loads(installed.run("python", "client.py", service))
    assert said["state"] == "succeeded"
    assert said["plan"] == said["here"] == {"up": "int8-g64", "down": "int4-g64"}
    assert Path(said["file"]).is_relative_to(installed.binaries.parent)


@pytest.mark.long
def test_the_command_profiles(installed: Installed, tiny_encoder: Path) -> None:
    pairs = [{"query": f"what is {number}?", "document": f"{number} is a number"} for number in range(4)]
    (installed.project / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    command = ("profile", "--model", tiny_encoder, "--pairs", "pairs.jsonl", "--tables", "fisher", "--json")
    said = json.loads(
        installed.run("bitalloc", *command, "--formats", "int4-g64,int8-g64", "--out", "own.json")
    )
    assert said["layers"] == len(json.loads((installed.project / "own.json").read_text())["layers"]) > 0


@pytest.mark.long
def test_worker_processes_measure_the_same_bits(installed: Installed) -> None:
    # A child of multiprocessing has the current folder on its path unless it is told not to.
    (installed.project / "multiprocessing.py").write_text(NOT_OURS)
    try:
        assert installed.run("python", "programs/measure.py").splitlines()[-1] == "True"
    finally:
        (installed.project / "multiprocessing.py").unlink()
