"""A service with keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import create_app
from api.keys.table import create_key, revoke_key
from api.settings import Settings
from api.store import Store, open_store
from tests.api.helpers import Guarded, serving


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A service with two good keys and a revoked one."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("guarded"), workers=1)
    store = open_store(settings)
    _, mine = create_key(store, "mine")
    _, theirs = create_key(store, "theirs")
    key, revoked = create_key(store, "revoked")
    revoke_key(store, key.id)
    with serving(create_app(settings)) as url:
        yield Guarded(url, mine, theirs, revoked)
    store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty database."""
    opened = open_store(Settings(data_dir=tmp_path))
    yield opened
    opened.close()
