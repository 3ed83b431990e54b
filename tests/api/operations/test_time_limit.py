"""Answers of several solves stay within one time limit."""

from __future__ import annotations

import time

from allocator import Request, load_profile
from api.operations.frontier import FrontierRequest, trade_off
from api.operations.operation import sharing
from tests.api.helpers import random_profile


def test_solves_share_the_limit_and_no_limit_stays_none() -> None:
    assert sharing(Request(time_limit_s=3.0), 2).time_limit_s == 1.5
    assert sharing(Request(), 2).time_limit_s is None


def test_baselines_are_left_out_when_the_time_is_over() -> None:
    profile, methods = load_profile(random_profile(40)), ("uniform", "greedy")
    asked = FrontierRequest(profile=profile, points=3, baselines=methods)
    in_time = trade_off(profile, Request(objective="kl", time_limit_s=60.0), asked)
    assert [len(in_time.baselines[name]) for name in methods] == [3, 3]
    late = trade_off(profile, Request(objective="kl", time_limit_s=1e-9), asked)
    assert late.baselines == {"uniform": (), "greedy": ()}
    assert late.spend == in_time.spend


def test_many_points_on_many_layers_take_little_more_than_the_limit() -> None:
    profile = load_profile(random_profile(1500))
    asked = FrontierRequest(profile=profile, points=64, baselines=("greedy",))
    start = time.perf_counter()
    found = trade_off(profile, Request(objective="kl", time_limit_s=0.5), asked)
    taken = time.perf_counter() - start
    assert len(found.exact) == 64
    assert len(found.baselines["greedy"]) < 64
    assert taken < 30
