"""One exported model for all tests of the backends; exporting takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quantize.models import Tokens, exported


@pytest.fixture(scope="session")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:class:`Tokens` as an ONNX file; tests must not change it."""
    return exported(Tokens(), tmp_path_factory.mktemp("tokens") / "tokens.onnx", ["embed", "up", "down"])
