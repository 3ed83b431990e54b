"""A job that is cancelled between the database and its worker."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from pathlib import Path

import pytest

from api.ids import new_id
from api.jobs import Jobs
from api.jobs.stored import OwnedProfiles
from api.keys.cache import NOBODY
from api.settings import Settings
from api.store import open_store
from api.store.jobs import find_job
from api.workers.pool import Pool
from tests.api.jobs.test_jobs import SLOW
from tests.api.replicas import noted


def test_a_job_that_is_cancelled_while_it_is_taken_never_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decompress, notes = gzip.decompress, tmp_path / "notes"
    monkeypatch.setenv("BITALLOC_TEST_NOTES", str(notes))
    monkeypatch.setattr(gzip, "decompress", lambda data: (time.sleep(0.5), decompress(data))[1])
    settings = Settings(data_dir=tmp_path, workers=1, plugins=("tests.api.solvers",))

    async def cancelled() -> None:
        async with Pool(settings) as pool:
            store = open_store(settings)
            async with Jobs(settings, store, pool, OwnedProfiles(store)) as jobs:
                while not pool.ready:
                    await asyncio.sleep(0.05)
                job = new_id()
                await jobs.submit(NOBODY, json.dumps(SLOW).encode(), job, lambda *_: None)
                while (found := find_job(store, job)) is None or found.state != "running":
                    await asyncio.sleep(0.05)
                assert await jobs.cancel(job)
                await asyncio.sleep(1.5)
            store.close()

    asyncio.run(cancelled())
    assert noted(notes, "began") == []
