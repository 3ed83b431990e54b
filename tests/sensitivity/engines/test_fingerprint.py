"""The same computation has the same fingerprint in any process; another computation has another."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from allocator import InvalidInputError
from sensitivity.engines.fingerprint import fingerprint
from tests.sensitivity.resumed import distance, outputs, shift

ROOT = Path(__file__).parents[3]


def bound(value: object) -> Any:
    return lambda: value


def defaulted(value: object) -> Any:
    def function(item: object = value) -> object:
        return item

    return function


@dataclass
class Option:
    value: object

    def method(self) -> object:
        return self.value


@dataclass
class Slotted:
    __slots__ = ("value",)
    value: object


class Locked:
    def __init__(self, value: object) -> None:
        self.value = value

    def __reduce_ex__(self, _: object) -> str:
        raise TypeError("cannot be copied")


def linear(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("make", "one", "other"),
    [
        (bound, 1, 2),
        (bound, 1, 1.0),
        (bound, torch.zeros(2), torch.ones(2)),
        (bound, np.zeros(2), np.zeros((1, 2))),
        (bound, np.float32(1), np.float64(1)),
        (bound, {"a": 1}, {"a": 2}),
        (bound, {1, 2}, {1, 3}),
        (bound, (1, 2), (2, 1)),
        (bound, int, float),
        (bound, len, max),
        (defaulted, 1, 2),
        (Option, 1, 2),
        (Slotted, 1, 2),
        (bound, Path("a"), Path("b")),
        (bound, torch.float16, torch.float32),
        (bound, torch.device("cpu"), torch.device("meta")),
        (lambda value: Locked(value), 1, 2),
        (lambda value: Option(value).method, 1, 2),
        (linear, 0, 1),
        (lambda value: partial(shift, name=value), "a", "b"),
        (lambda value: partial(shift, outputs=value), outputs, distance),
        (lambda value: value, lambda x: x + 1, lambda x: x + 2),
        (lambda value: value, lambda x: [x for _ in range(3)], lambda x: [x for _ in range(4)]),
    ],
)
def test_equal_things_agree_and_different_things_do_not(make: Any, one: object, other: object) -> None:
    assert fingerprint(make(one)) == fingerprint(make(one))
    assert fingerprint(make(one)) != fingerprint(make(other))


def test_structures_that_contain_themselves_end() -> None:
    inside: list[object] = [1]
    inside.append(inside)
    assert fingerprint(inside) == fingerprint(inside)


def test_what_cannot_be_looked_into_is_refused() -> None:
    message = r"^/estimators: a generator is bound that cannot be told from another: .*; bind values instead$"
    with pytest.raises(InvalidInputError, match=message):
        fingerprint(partial(shift, name=(item for item in "ab")))


def test_another_process_agrees() -> None:
    code = (
        "from tests.sensitivity.resumed import shift; from sensitivity.engines.fingerprint import fingerprint;"
        "print(fingerprint([shift, {'b', 'a', 'c'}]))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == fingerprint([shift, {"a", "b", "c"}])
