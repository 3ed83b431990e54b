from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest

from allocator import SOLVERS, MissingPackageError, Status, solve
from tests.allocator.problems import make
from tests.allocator.profiles import profile_json


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_loads_and_says_what_it_is(name: str) -> None:
    entry = SOLVERS[name]
    assert callable(entry.load())
    assert entry.summary
    assert entry.version()[0].isdigit()


def test_a_version_that_cannot_be_told_is_unknown() -> None:
    from dataclasses import replace

    assert replace(SOLVERS["exact"], distribution="no-such-distribution").version() == "unknown"


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (0, "exact: 0 limits fit into the states of the expanding core"),
        (1, "exact: 1 limit fits into the states of the expanding core"),
        (2, "exact: 2 limits fit into the states of the expanding core"),
        (9, "highs: 9 limits are too many for the expanding core, which takes 8"),
    ],
)
def test_auto_says_which_solver_it_took_and_why(limits: int, why: str) -> None:
    spend = np.array([1.0, 0.0]) * np.arange(1, 1 + limits)[:, None, None]
    problem = make([[2, 1]], spend, np.ones(limits))
    entry, said = SOLVERS["auto"].chosen(problem)
    assert (entry.name, said) == (why.partition(":")[0], why)


@pytest.mark.parametrize(("solver", "package"), [("pulp", "pulp"), ("pulp", "cbcbox"), ("cpsat", "ortools")])
def test_a_missing_package_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, solver: str, package: str
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        MissingPackageError, match=rf"{package} is needed here .* pip install 'bitalloc\[solvers\]'"
    ):
        solve(profile_json(), solver=solver)


def test_cbc_is_found_when_the_environment_is_not_activated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert solve(profile_json(), solver="pulp", budgets={"weight_bytes": 160}).status is Status.OPTIMAL
