"""What an operator can set, and how."""

from __future__ import annotations

import pytest

from allocator import InvalidInputError
from api.settings import load_settings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("BITALLOC_MAX_BODY_BYTES", "64 MiB", "valid integer"),
        ("BITALLOC_MAX_BODY_BYTES", "0", "greater than 0"),
        ("BITALLOC_MAX_TIME_LIMIT_S", "inf", "finite number"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError, match=rf"{name}: .*{words}"):
        load_settings()
