"""What a service answers that cannot start a worker."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from api.problems.problem import ProblemError
from api.settings import Settings
from api.workers.pool import Pool
from api.workers.task import Task
from tests.api.helpers import tiny


def test_nobody_waits_for_workers_that_cannot_be_started(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path, workers=1, plugins=("no_such_module",))

    async def planned() -> None:
        async with Pool(settings) as pool:
            await pool.run(Task("check", "me", json.dumps({"profile": tiny()}).encode()), 60)

    with pytest.raises(ProblemError, match="no worker is up") as refusal:
        asyncio.run(asyncio.wait_for(planned(), 60))
    assert refusal.value.status_code == 503
    assert "a worker could not be started: a worker ended with 1 before it was ready" in caplog.text
