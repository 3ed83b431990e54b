"""Every registry: what it knows loads, and an unknown name is refused where it was written, with the near ones."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from allocator import SOLVERS, InvalidInputError, solve
from allocator.contract.registry import Registry
from api.operations import OPERATIONS
from api.workers.tasks import TASKS
from benchmarks.peers.registry import PEERS
from quantize import BACKENDS, apply
from quantize.exports import EXPORTS, export, read
from quantize.imports import IMPORTS, import_scores
from quantize.lint import RUNTIMES, lint_plan
from sensitivity import ESTIMATORS, RESOURCES, UNITS, profile_model, profile_recipe
from sensitivity.curvature.output_metrics import METRICS
from sensitivity.engines import EXECUTORS
from sensitivity.engines.recipe import Recipe
from tests.allocator.profiles import profile_json

REGISTRIES: tuple[Registry[object], ...] = (
    SOLVERS, BACKENDS, EXPORTS, IMPORTS, RUNTIMES, ESTIMATORS, RESOURCES, UNITS, EXECUTORS, METRICS, OPERATIONS,
    TASKS, PEERS,
)  # fmt: skip


def profiled(**options: object) -> object:
    given: dict[str, object] = {"estimators": ["zd"], **options}
    model = nn.Sequential(nn.Linear(2, 2))
    return profile_model(
        model, [torch.ones(1, 2)], lambda model, batch: model(batch).sum(1), ["int8"], **given
    )  # type: ignore[arg-type]


ASKED: Mapping[str, Callable[[], object]] = {
    "/solver: unknown solver 'exakt'; did you mean 'exact'? known: 'auto', 'exact',": lambda: solve(
        profile_json(), solver="exakt"
    ),
    "/backend: unknown backend 'torcha'; did you mean 'torchao'?": lambda: apply(
        None, {"up": "int8"}, "torcha"
    ),
    "/target: unknown target 'torcha'; did you mean 'torchao'?": lambda: export({"up": "int4"}, "torcha"),
    "/target: unknown target 'gtpq'; known: 'torchao',": lambda: read("gtpq", {}),
    "/source: unknown source 'exllama'; did you mean 'exllamav2'?": lambda: import_scores(
        "exllama", [Path()]
    ),
    "/runtime: unknown runtime 'vlm'; did you mean 'vllm'?": lambda: lint_plan({}, "vlm"),
    "/estimators: unknown estimator 'fischer'; did you mean 'fisher'?": lambda: profiled(
        estimators=["fischer"]
    ),
    "/resources: unknown resource 'latency'; did you mean 'latency_us'?": lambda: profiled(
        resources=["latency"]
    ),
    "/units: unknown rule for units 'trt'; known: 'none', 'vllm', 'shared_input', 'tied_input'": lambda: (
        profiled(units="trt")
    ),
    "/executor: unknown executor 'rai'; did you mean 'ray'? known: 'serial', 'process', 'ray', 'dask'": lambda: (
        profile_recipe(Recipe("tests.sensitivity.recipes:blocks"), ["int8"], ["zd"], executor="rai")
    ),
    "/metric: unknown metric 'kl'; known: 'softmax_kl', 'squared_error'": lambda: METRICS.find("kl"),
    "/only: unknown peer 'nnfc'; did you mean 'nncf'?": lambda: PEERS.chosen(["nnfc"]),
}


@pytest.mark.parametrize("words", ASKED)
def test_unknown_names_are_refused_with_those_that_exist(words: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{re.escape(words)}"):
        ASKED[words]()


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry._what)
def test_all_that_is_known_loads(registry: Registry[object]) -> None:
    assert list(registry) == list(dict(registry.items()))
    assert all(thing is registry.find(name) is not None for name, thing in registry.items())


def test_names_are_listed_without_an_import_and_things_come_and_go() -> None:
    registry = Registry[object]("dish", {"soup": "tests.no_such_module", "bread": 3}, attribute="DISH")
    assert ("soup" in registry, "tea" in registry, list(registry), len(registry)) == (
        True,
        False,
        ["soup", "bread"],
        2,
    )
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        registry.find("soup")
    registry["soup"] = "tests.test_registries"
    assert sys.modules["tests.test_registries"].DISH is registry["soup"]
    del registry["soup"]
    assert registry == {"bread": 3}
    assert registry.get("soup") is None
    assert registry.chosen({"own": 4}) == {"own": 4}
    assert registry.chosen(["bread"]) == {"bread": 3}


DISH = object()
