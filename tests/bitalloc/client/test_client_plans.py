"""What the client does with plans that are there already."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx2
import pytest

from allocator import Allocation, InvalidInputError, solve
from bitalloc.client import AsyncClient, Client, ServiceError, Side
from bitalloc.wire import StoredAllocation
from quantize.exports import export
from quantize.lint import lint_plan
from tests.api.helpers import comparable, tiny

BUDGETS = {"effective_bits": 6.5}
TABLE = {"up": "int8-g64", "down": "int4-g64"}


@pytest.fixture
def client(service: str) -> Iterator[Client]:
    with Client(service) as opened:
        yield opened


@pytest.fixture
def plan(client: Client) -> StoredAllocation:
    return client.allocate(tiny(), budgets=BUDGETS)


def test_a_stored_plan_is_got_again(client: Client, plan: StoredAllocation) -> None:
    assert client.allocation(plan.id) == plan
    with pytest.raises(ServiceError, match=r"there is no allocation 0{32}"):
        client.allocation("0" * 32)


def test_a_plan_is_exported_and_linted_in_every_form(client: Client, plan: StoredAllocation) -> None:
    files = dict(export(TABLE, "mlx").files)
    findings = lint_plan(TABLE, "vllm", None)
    plain = Allocation.model_validate(plan.model_dump(exclude={"id"}))
    for each in (plan, plan.id, plain, TABLE):
        assert client.export(each, "mlx").files == files
        assert client.lint(each, "vllm").findings == findings
    olive = {"quantization_config.json": '{"bits": 4, "group_size": 64, "symmetric": true}'}
    found = client.lint(
        None, "onnxruntime", files=olive, format="olive", model={"shapes": {"up": [4096, 1000]}}
    )
    assert {finding.layers for finding in found.findings} <= {("up",), ()}


def test_what_a_tool_cannot_say_is_an_error_where_that_is_asked_for(
    client: Client, plan: StoredAllocation
) -> None:
    with pytest.raises(InvalidInputError, match=r"^/allocation_id/up: .*becomes uint8-g64"):
        client.export(plan, "mlx", strict=True)
    with pytest.raises(ServiceError, match=r"there is no allocation 1{32}"):
        client.lint("1" * 32, "vllm")


def test_a_stored_plan_goes_by_its_id_and_whole_where_the_service_lacks_it(plan: StoredAllocation) -> None:
    seen = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.content))
        if "allocation_id" in seen[-1]:
            problem = {"type": "urn:bitalloc:problem:no-such-allocation", "title": "Not Found", "status": 404}
            return httpx2.Response(404, json=problem | {"detail": "gone", "errors": [], "request_id": None})
        return httpx2.Response(
            200, json={"target": "mlx", "files": {}, "losses": [], "advice": "", "version": "1"}
        )

    with Client("http://nowhere", transport=httpx2.MockTransport(respond)) as client:
        assert client.export(plan, "mlx").files == {}
    assert seen[0] == {"target": "mlx", "allocation_id": plan.id}
    assert seen[1]["plan"]["assignment"] == TABLE


def test_plans_are_compared_in_every_form(client: Client, plan: StoredAllocation) -> None:
    both = [
        client.compare(tiny(), first, Side(objective="kl"), budgets=BUDGETS)
        for first in (plan, plan.id, TABLE, Side(allocation_id=plan.id))
    ]
    for found in both:
        assert found.first.assignment == TABLE
        assert found.second.allocation is not None
        assert comparable(found.second.allocation) == comparable(solve(tiny(), budgets=BUDGETS))
        assert found.layers == ()
    nothing = client.allocate(tiny(), budgets={"weight_bytes": 1})
    with pytest.raises(InvalidInputError, match=r"there is nothing to compare: the allocation is infeasible"):
        client.compare(tiny(), TABLE, nothing)


def test_the_asynchronous_client_does_the_same(service: str, plan: StoredAllocation) -> None:
    async def ask() -> None:
        async with AsyncClient(service) as client:
            assert await client.allocation(plan.id) == plan
            assert (await client.export(plan, "mlx")).files == dict(export(TABLE, "mlx").files)
            assert (await client.lint(plan.id, "vllm")).findings == lint_plan(TABLE, "vllm", None)
            assert (await client.compare(tiny(), plan, TABLE)).alike == 2

    asyncio.run(ask())
