"""Rates by a clock that nobody sets: a minute is a minute, whatever the wall clock says."""

from __future__ import annotations

import time

import pytest

from api.middleware.keys import Rates


def test_no_minute_holds_more_than_a_full_bucket_and_what_fills_it() -> None:
    now = 0.0
    rates = Rates(lambda: now)
    served = []
    for step in range(1200):
        now = step / 4
        if rates.wait_s("key", 30) == 0:
            served.append(now)
    assert all(sum(at <= each < at + 60 for each in served) <= 60 for at in served)
    assert len(served) == 30 + 5 * 30 - 1  # full at first, then as fast as it fills


@pytest.mark.parametrize("before", [0, 1, 5])
def test_who_waits_as_long_as_told_is_served(before: int) -> None:
    now = 30.0
    rates = Rates(lambda: now)
    for _ in range(before):
        rates.wait_s("key", 5)
    now = 80.0
    while (wait := rates.wait_s("key", 5)) == 0:
        pass
    assert 1 <= wait <= 60
    now += wait
    assert rates.wait_s("key", 5) == 0


def test_keys_do_not_share_a_limit() -> None:
    rates = Rates(lambda: 0.0)
    assert [rates.wait_s(key, 1) for key in ("a", "b")] == [0, 0]
    assert rates.wait_s("a", 1) == 60


def test_a_wall_clock_that_is_set_back_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates()
    assert rates.wait_s("key", 1) == 0
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert rates.wait_s("key", 1) <= 60
    assert rates.wait_s("another", 1) == 0


def test_old_keys_are_forgotten() -> None:
    rates = Rates(lambda: 0.0)
    for number in range(5000):
        rates.wait_s(str(number), 1)
    assert rates.wait_s("0", 1) == 0
