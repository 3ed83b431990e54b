"""What an operator can set, and how."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from allocator import InvalidInputError
from api.settings import Settings, load_settings


def test_defaults_are_64_mib_and_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITALLOC_MAX_BODY_BYTES", raising=False)
    monkeypatch.delenv("BITALLOC_MAX_TIME_LIMIT_S", raising=False)
    settings = Settings()
    assert settings.max_body_bytes == 67_108_864
    assert settings.max_time_limit_s == 60.0


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITALLOC_MAX_BODY_BYTES", "4096")
    monkeypatch.setenv("BITALLOC_MAX_TIME_LIMIT_S", "2.5")
    settings = Settings()
    assert settings.max_body_bytes == 4096
    assert settings.max_time_limit_s == 2.5


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITALLOC_MAX_BODY_BYTES", "4096")
    assert Settings(max_body_bytes=10).max_body_bytes == 10


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("BITALLOC_MAX_BODY_BYTES", "64 MiB", "valid integer"),
        ("BITALLOC_MAX_BODY_BYTES", "0", "greater than 0"),
        ("BITALLOC_MAX_BODY_BYTES", "-1", "greater than 0"),
        ("BITALLOC_MAX_TIME_LIMIT_S", "a minute", "valid number"),
        ("BITALLOC_MAX_TIME_LIMIT_S", "0", "greater than 0"),
        ("BITALLOC_MAX_TIME_LIMIT_S", "nan", "finite number"),
        ("BITALLOC_MAX_TIME_LIMIT_S", "inf", "finite number"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError, match=rf"{name}: .*{words}"):
        load_settings()


def test_settings_never_change() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.max_body_bytes = 1  # type: ignore[misc]
