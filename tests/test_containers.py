"""What Dockerfile and compose.yaml run is what the code knows: parsed here, and the command started."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

from api.keys.table import create_key
from api.settings import Settings
from api.store import open_store

ROOT = Path(__file__).parents[1]
PORT = "8000"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as pairs of instruction and rest."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def last(instruction: str) -> str:
    """The last instruction of a kind, the one that counts."""
    return [rest for name, rest in instructions() if name == instruction][-1]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return document


def command() -> list[str]:
    """What a container runs."""
    return [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]


def test_the_container_runs_the_command_of_the_documentation() -> None:
    assert command() == ["bitalloc", "serve", "--host", "0.0.0.0", "--port", PORT]
    assert last("EXPOSE") == PORT


def test_everything_that_is_copied_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = {
        source
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert sources == kept
    assert all((ROOT / source).exists() for source in sources)


def test_the_python_is_one_that_the_project_supports() -> None:
    images = [rest for name, rest in instructions() if name == "FROM"]
    assert all(re.match(r"python:3\.1[1-9]-slim", image) for image in images)


def test_nobody_is_root() -> None:
    assert last("USER") not in {"root", "0"}
    kinds = [name for name, _ in instructions()]
    assert kinds.index("USER") < kinds.index("ENTRYPOINT")


def test_environment_variables_are_settings(compose: dict[str, Any]) -> None:
    names = set(re.findall(r"(BITALLOC_\w+)=", last("ENV"))) | set(
        compose["services"]["service"]["environment"]
    )
    assert names
    assert {name.removeprefix("BITALLOC_").lower() for name in names} <= set(Settings.model_fields)


def test_two_replicas_share_one_database(compose: dict[str, Any]) -> None:
    service, database = compose["services"]["service"], compose["services"]["database"]
    assert ["bitalloc", *service["command"]] == command()
    assert service["deploy"]["replicas"] == 2
    assert service["ports"] == [f"127.0.0.1:{PORT}-{int(PORT) + 1}:{PORT}"]
    assert service["depends_on"]["database"]["condition"] == "service_healthy"
    assert database["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    url = make_url(service["environment"]["BITALLOC_DATABASE_URL"].replace("${POSTGRES_PASSWORD}", "p"))
    assert (url.drivername, url.host) == ("postgresql+psycopg", "database")
    assert url.username == database["environment"]["POSTGRES_USER"]
    assert url.database == database["environment"]["POSTGRES_DB"]


def test_the_command_starts_answers_its_health_check_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITALLOC_DATA_DIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    check = [
        argument.replace(PORT, port) for argument in json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    ]
    program, *arguments = command()
    started = [
        str(Path(sys.executable).parent / program),
        *(port if argument == PORT else argument for argument in arguments),
    ]
    assert subprocess.run(started, capture_output=True, text=True, check=False).returncode == 2  # no keys yet

    store = open_store(Settings(data_dir=tmp_path))
    create_key(store, "container")
    store.close()
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while subprocess.run(
                [sys.executable, *check[1:]], stderr=subprocess.DEVNULL, check=False
            ).returncode:
                assert time.monotonic() < deadline
                assert process.poll() is None
        finally:
            process.terminate()
        assert process.wait(timeout=30) in {0, -15}
