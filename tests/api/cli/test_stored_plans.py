"""`bitalloc --server URL export ID`: a plan that a service keeps in place of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.cli.plans import read_allocation
from api.cli.server import HERE, Server, stored_plan
from bitalloc.client import Client
from bitalloc.wire import StoredAllocation
from tests.api.conftest import Run
from tests.api.helpers import tiny


@pytest.fixture
def plan(service: str) -> StoredAllocation:
    with Client(service) as client:
        return client.allocate(tiny(), budgets={"effective_bits": 6.5})


def test_a_stored_plan_is_exported_and_linted_by_its_id(
    bitalloc: Run, service: str, plan: StoredAllocation
) -> None:
    Path("plan.json").write_text(plan.model_dump_json())
    here = bitalloc("export", "plan.json", "--to", "torchao", "--out", "here")
    there = bitalloc("--server", service, "export", plan.id, "--to", "torchao", "--out", "there")
    assert (here.code, there.code) == (0, 0), there.err
    (written,) = Path("there").iterdir()
    assert written.read_bytes() == (Path("here") / written.name).read_bytes()
    here = bitalloc("lint", "plan.json", "--runtime", "vllm", "--json")
    there = bitalloc("--server", service, "lint", plan.id, "--runtime", "vllm", "--json")
    assert json.loads(there.out) == json.loads(here.out)


def test_commands_that_read_allocations_take_ids(service: str, plan: StoredAllocation) -> None:
    assert read_allocation(Path(plan.id), Server(service)) == plan


def test_an_id_that_the_service_lacks_is_told(bitalloc: Run, service: str) -> None:
    end = bitalloc("--server", service, "export", "0" * 32, "--to", "mlx")
    assert end.code == 2
    assert f"there is no allocation {'0' * 32}" in end.err


def test_files_stay_files(bitalloc: Run, service: str, plan: StoredAllocation) -> None:
    Path("0" * 32).write_text(plan.model_dump_json())
    assert stored_plan(Path("0" * 32), Server(service)) is None
    assert stored_plan(Path("plan.json"), Server(service)) is None
    assert stored_plan(Path(plan.id), HERE) is None
    end = bitalloc("export", plan.id, "--to", "mlx")
    assert end.code == 2
    assert f"cannot read the plan '{plan.id}'" in end.err
