"""Work on what others wrote ends."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest

from allocator import InvalidInputError, solve
from allocator.contract.processor_time import ProcessorTimeError, processor_time

EVIL = ("(a+)+$", "a" * 60 + "!")


def test_a_match_that_backtracks_ends() -> None:
    began = time.process_time()
    with (
        pytest.raises(ProcessorTimeError, match=r"this took more than 0.1 s of processor time"),
        processor_time(0.1),
    ):
        re.search(*EVIL)
    assert time.process_time() - began < 1


def test_the_timer_ends_with_the_block_and_the_handler_is_as_before() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with processor_time(0.05):
        assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) == before


def test_the_outer_of_two_blocks_counts() -> None:
    with (
        pytest.raises(ProcessorTimeError, match=r"more than 0.1 s"),
        processor_time(0.1),
        processor_time(100),
    ):
        re.search(*EVIL)


def test_other_threads_are_left_alone() -> None:
    done: list[bool] = []

    def work() -> None:
        with processor_time(0.01):
            done.append(sum(range(2_000_000)) > 0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_a_glob_that_takes_long_to_compare_is_refused() -> None:
    names = [f"{number}{'a' * 500}" for number in range(30)]
    profile = {
        "formats": {"int4": {"weight_bits": 4}},
        "layers": [{"name": name} for name in names],
        "costs": {"kl": {"values": [[1.0]] * len(names)}},
    }
    evil = "*{}" + "*a" * 200 + "b"
    with pytest.raises(
        InvalidInputError, match="takes too long to compare with the names; use fewer"
    ) as refusal:
        solve(profile, limits=[{"max": 1, "each": evil}])
    assert refusal.value.faults[0].pointer == "/limits/0"
