"""Work on what others wrote ends."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest

from allocator import InvalidInputError, Profile, load_profile, solve
from allocator.contract.errors import unknown
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


@pytest.mark.thorough
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


def _many_layers(count: int) -> Profile:
    return load_profile(
        {
            "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
            "layers": [{"name": f"model.layers.{number}.proj"} for number in range(count)],
            "costs": {"kl": {"values": [[1.0, 0.5]] * count}},
        }
    )


@pytest.mark.thorough
def test_a_thousand_globs_over_a_hundred_thousand_layers_end() -> None:
    profile = _many_layers(100_000)
    began = time.process_time()
    with pytest.raises(InvalidInputError, match=r"take more than 5 s to compare with the layers; give fewer"):
        solve(profile, pin={f"*.{number}*.p*j": "int4" for number in range(1_000)})
    assert time.process_time() - began < 10


def test_names_that_are_unknown_among_many_are_answered_soon() -> None:
    profile = _many_layers(20_000)
    with pytest.raises(InvalidInputError, match=r"did you mean 'model.layers.7.proj'") as refusal:
        solve(profile, pin={f"modell.layers.{number}.proj": "int4" for number in (7, 8)})
    assert len(refusal.value.faults) == 2
    assert len(unknown("x" * 100_000, ["x" * 100_000] * 9, "layer")) < 2_000_000
