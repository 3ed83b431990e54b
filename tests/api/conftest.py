"""One service in a process of its own, and the command inside this one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from allocator import SOLVERS
from allocator.solvers import Solver
from api.cli import main
from api.server import running_server
from tests.api.helpers import GivenSolver, tiny
from tests.api.postgres import Postgres, postgres_server


@pytest.fixture(autouse=True, scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database of their own for the services of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("data")
        patch.setenv("BITALLOC_DATA_DIR", str(folder))
        patch.setenv("BITALLOC_WORKERS", "2")  # each takes a second of the processor to start
        patch.setenv("BITALLOC_WAIT_S", "50")  # a busy machine takes its time to start a worker
        patch.setenv("BITALLOC_PLUGINS", json.dumps(["tests.api.solvers"]))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # tests change the working directory
        yield folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def service(data_dir: Path) -> Iterator[str]:
    """Base URL of the real service, in a real process, on a real socket."""
    del data_dir
    with running_server() as url:
        yield url


@pytest.fixture(scope="session")
def without_solvers(data_dir: Path) -> Iterator[str]:
    """Base URL of a service on a machine without optional solvers."""
    del data_dir
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BITALLOC_WORKERS", "1")
            patch.setenv("BITALLOC_PLUGINS", json.dumps(["tests.api.no_solvers"]))
            url = stack.enter_context(running_server())
        yield url


@pytest.fixture
def http(service: str) -> Iterator[httpx2.Client]:
    """Plain HTTP to the real service."""
    with httpx2.Client(base_url=service, timeout=30) as client:
        yield client


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Finished]


@pytest.fixture
def bitalloc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the installed entry point in this process: imports are paid once, and `main` itself is covered.

    ``typer.testing.CliRunner`` would stop short of ``main``, which turns errors into messages and exit codes.
    """
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["bitalloc", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Finished(int(end.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def add_solver(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Solver], None]:
    """Register a solver for one test, the way a new one would be."""

    def add(name: str, run: Solver) -> None:
        monkeypatch.setitem(SOLVERS, name, GivenSolver(name, "tests", "for one test", run=run))

    return add


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A file with the small profile."""
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(tiny()))
    return path
