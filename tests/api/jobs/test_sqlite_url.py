"""SQLite by its URL is as good as SQLite by its folder: jobs, readiness, refusals."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx2
import pytest

from allocator import InvalidInputError
from api.app import create_app
from api.settings import Settings
from api.store import open_store
from tests.api.helpers import problem_of, serving, tiny
from tests.api.replicas import eventually, noted, replicas

PATH = "/v1/allocations"
SLOW = {"profile": tiny(), "solver": "slow"}


def test_a_request_that_outlasts_its_wait_becomes_a_job(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    url = f"sqlite:///{tmp_path}/folder/of/its/own.db"
    with replicas(notes, {"database_url": url, "data_dir": tmp_path / "unused"}) as (service,):
        ready = eventually(lambda: (got := service.http.get("/readyz")).status_code == 200 and got)
        assert ready.json() == {"store": "writable", "queue": "accepting", "workers": "accepting"}
        began = service.http.post(PATH, json=SLOW, headers={"prefer": "wait=1"})
        queued = service.http.post(PATH, json=SLOW, headers={"prefer": "respond-async"})
        assert (began.status_code, queued.status_code) == (202, 202)
        eventually(lambda: len(noted(notes, "began")) == 2)
        Path(f"{notes}.end").touch()
        for each in (began, queued):
            location = each.headers["location"]
            assert eventually(lambda at=location: service.http.get(at).json()["state"] == "succeeded")
    assert not (tmp_path / "unused").exists()
    assert stat.S_IMODE((tmp_path / "folder" / "of" / "its" / "own.db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite:///x.db", "sqlite:///file:x?mode=memory&uri=true"],
)
def test_what_would_not_outlive_the_service_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError, match="BITALLOC_DATABASE_URL: expected sqlite:///path/of/a/file"):
        open_store(Settings(database_url=url))


def test_a_queue_that_cannot_be_served_is_not_ready_and_takes_nothing_in(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, workers=1))
    with serving(app) as url, httpx2.Client(base_url=url, timeout=60) as http:
        eventually(lambda: http.get("/readyz").status_code == 200)
        engine = app.state.resources.store.engine
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE jobs RENAME TO elsewhere")
        response = eventually(lambda: (got := http.get("/readyz")).status_code == 503 and got)
        assert problem_of(response, 503)["type"].endswith("no-queue")
        assert int(response.headers["retry-after"]) > 0
        refused = http.post(PATH, json={"profile": tiny()}, headers={"prefer": "respond-async"})
        problem_of(refused, 503)
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO jobs")
        assert eventually(lambda: http.get("/readyz").status_code == 200)
        assert (
            http.post(PATH, json={"profile": tiny()}, headers={"prefer": "respond-async"}).status_code == 202
        )
